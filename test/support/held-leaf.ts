import type { HeldLeaf } from "../../agent-client/journal.ts";

/** A leaf for tests of what is decided: received at 0, valid until 300, renewed between 100 and 200. */
export function held(name: string, change: Partial<HeldLeaf> = {}): HeldLeaf {
  return {
    fingerprint: name,
    serial: name,
    identity: "gateway-1",
    lineage: "l",
    generation: 1,
    notBefore: 0,
    receivedAt: 0,
    notAfter: 300,
    window: { start: 100, end: 200, learnedAt: 0, moved: false },
    ...change,
  };
}
