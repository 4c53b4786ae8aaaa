import { generateKeyPairSync } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestHost } from "./agent.ts";

export interface Hand {
  armed: boolean;
  readonly broke: boolean;
  checkpoint(name: string): void;
}

/** Puts another key beside the certificate: once, after the agent's last look at the files and before the server reads them. */
export function operatorsHand(host: TestHost): Hand {
  let broke = false;
  const hand: Hand = {
    armed: false,
    get broke() {
      return broke;
    },
    checkpoint(name) {
      if (!hand.armed || name !== "reloaded") return;
      hand.armed = false;
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
  return hand;
}

function spoilt(store: Buffer): Buffer {
  store.subarray(-64, -32).fill(0);
  return store;
}
