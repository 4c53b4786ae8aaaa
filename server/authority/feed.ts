import { EventEmitter } from "node:events";

/** Wakes held polls. It carries no content: whoever wakes looks at the state again. */
export interface Feed {
  /** Bundle or a CRL changed: everybody. */
  announce(): void;
  /** What concerns one identity changed (its inventory entry, its renewal window). */
  announceTo(identity: string): void;
  /** Resolves at the next announcement for this identity, or when the signal aborts. */
  next(identity: string, signal: AbortSignal): Promise<void>;
  /** Identities that wait now. */
  held(): readonly string[];
}

const everybody = "*";
const concerning = "id ";

export function createFeed(): Feed {
  const emitter = new EventEmitter().setMaxListeners(0);
  return {
    announce: () => void emitter.emit(everybody),
    announceTo: (identity) => void emitter.emit(concerning + identity),
    held: () =>
      emitter.eventNames().flatMap((name) => (name === everybody ? [] : [String(name).slice(concerning.length)])),
    next(identity, signal) {
      return new Promise((resolve) => {
        const wake = (): void => {
          emitter.off(everybody, wake);
          emitter.off(concerning + identity, wake);
          signal.removeEventListener("abort", wake);
          resolve();
        };
        if (signal.aborted) return resolve();
        emitter.on(everybody, wake);
        emitter.on(concerning + identity, wake);
        signal.addEventListener("abort", wake);
      });
    },
  };
}
