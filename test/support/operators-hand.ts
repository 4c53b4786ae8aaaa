import { generateKeyPairSync } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestHost } from "./agent.ts";

/**
 * `link-switched`: right after the switch, so that the agent still looks at the files before the server is told. `reloaded`: after
 * that look and before the server reads them.
 */
export type Moment = "link-switched" | "reloaded";

export interface Hand {
  /** Breaks the next set at that moment, once. */
  strike(at: Moment): void;
  /** It has struck. */
  readonly broke: boolean;
  checkpoint(name: string): void;
}

/** Puts another key beside the certificate, as an operator in a hurry may. */
export function operatorsHand(host: TestHost): Hand {
  let broke = false;
  let armed: Moment | null = null;
  return {
    strike(at) {
      armed = at;
      broke = false;
    },
    get broke() {
      return broke;
    },
    checkpoint(name) {
      if (name !== armed) return;
      armed = null;
      const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
      const key = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
      for (const name of ["key.pem", "combined.pem"]) {
        const path = join(host.current, name);
        const text = readFileSync(path, "utf8");
        writeFileSync(path, text.replace(/-----BEGIN PRIVATE KEY-----[^]*?-----END PRIVATE KEY-----\n/, key));
      }
      // A store with a wrong byte, of the size it had.
      const store = join(host.current, "keystore.p12");
      if (existsSync(store)) writeFileSync(store, spoilt(readFileSync(store)));
      broke = true;
    },
  };
}

function spoilt(store: Buffer): Buffer {
  store.subarray(-64, -32).fill(0);
  return store;
}
