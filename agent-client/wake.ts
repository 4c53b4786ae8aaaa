/** A sleep that news can end. */
export interface Wake {
  /** Ends the sleep under way, or the next one at once. */
  now(): void;
  /** Returns after at most `ms`. Never asked to sleep long: wall time is looked at again after each tick. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

export function createWake(): Wake {
  let rung = false;
  let end: (() => void) | null = null;
  return {
    now() {
      rung = true;
      end?.();
    },
    async sleep(ms, signal) {
      if (!rung && !signal.aborted) await pause(ms, signal, (finish) => (end = finish));
      rung = false;
      end = null;
    },
  };
}

/** Sleeps, unless or until the signal aborts. Never throws. */
export function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return signal.aborted ? Promise.resolve() : pause(ms, signal, () => {});
}

function pause(ms: number, signal: AbortSignal, expose: (finish: () => void) => void): Promise<void> {
  return new Promise((resolve) => {
    const finish = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", finish);
      resolve();
    };
    const timer = setTimeout(finish, ms);
    signal.addEventListener("abort", finish);
    expose(finish);
  });
}
