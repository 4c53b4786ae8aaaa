/** The client that never pauses: one request after the other, each on a new connection, every failure counted. */
import { type Holder, knock } from "./client.ts";
import { pause } from "./wait.ts";

export interface Load extends AsyncDisposable {
  requests(): number;
  dropped(): number;
  holder(): Holder;
  /** From the next request on. */
  use(holder: Holder): void;
}

export interface LoadListener {
  /** A leaf of the gateway, the first time it is seen in a verified handshake. */
  readonly onServed: (fingerprint: string) => void;
  readonly onDropped: (reason: string) => void;
}

/** Dropped is whatever did not end with 200: no connection, no handshake, a reset, another status. */
export function startLoad(port: number, first: Holder, listener: LoadListener): Load {
  let holder = first;
  let requests = 0;
  let dropped = 0;
  const seen = new Set<string>();
  const stopping = new AbortController();

  const once = async (): Promise<void> => {
    requests += 1;
    try {
      const { status, fingerprint } = await knock(port, holder);
      if (status !== 200) throw new Error(`answered ${status}`);
      if (!seen.has(fingerprint)) {
        seen.add(fingerprint);
        listener.onServed(fingerprint);
      }
    } catch (error) {
      dropped += 1;
      listener.onDropped(error instanceof Error ? error.message : String(error));
      // A gateway that is down would else be counted thousands of times a second.
      await pause(100, stopping.signal).catch(() => undefined);
    }
  };
  const running = (async (): Promise<void> => {
    while (!stopping.signal.aborted) await once();
  })();

  return {
    requests: () => requests,
    dropped: () => dropped,
    holder: () => holder,
    use: (next) => void (holder = next),
    // The request under way is answered first.
    async [Symbol.asyncDispose]() {
      stopping.abort();
      await running;
    },
  };
}
