import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { needs } from "../../support/programs.ts";
import { startTargetServer, versionOf } from "../../support/target-server.ts";
import { type Place, proveTarget } from "../../support/target.ts";

const root = join(import.meta.dirname, "..", "..", "..");
const sources = ["docs/gateways/java/ReloadingStores.java", "test/support/java/TargetServer.java"];

test(
  "a Java server with the guide's class takes five new keystores, keeps the old one when the set is broken, refuses who is revoked, and starts from the files on disk",
  { skip: needs("java", "javac"), timeout: 180_000 },
  async () => {
    const row = await proveTarget({
      target: "Java (JSSE)",
      how: "looks at `current` twice a second",
      version: versionOf(["java", "-version"], /version "([^"]+)"/),
      traffic: "handshake",
      clientCertificates: true,
      readsCrl: true,
      onBadSet: "keeps-old",
      outputs: (dir) => ({ files, passphraseFile: passphraseFile(dir) }),
      start: (place) =>
        startTargetServer(place, {
          argv: [
            "java",
            "-cp",
            compiled(place),
            ...options,
            "TargetServer",
            dirname(place.file("key.pem")),
            passphraseFile(dirname(place.dir)),
            String(place.port),
          ],
        }),
      settings: () => ({ reload: "watch" }),
    });
    assert.equal(row.seconds.length, 5);
  },
);

const pem = ["key.pem", "fullchain.pem", "ca.pem", "crl.pem", "combined.pem"];
const files = [...pem, "keystore.p12", "truststore.p12"];
/** Resumed sessions are not checked against the CRL: none. */
const options = ["-Xshare:auto", "-Xmx64m", "-Djdk.tls.server.enableSessionTicketExtension=false"];

function passphraseFile(dir: string): string {
  const path = join(dir, "store-passphrase");
  writeFileSync(path, "a passphrase of the test\n", { mode: 0o600 });
  return path;
}

function compiled(place: Place): string {
  const path = join(place.dir, "classes");
  // It is started twice.
  if (existsSync(path)) return path;
  mkdirSync(path);
  execFileSync("javac", ["-Xlint:all", "-Werror", "-d", path, ...sources.map((source) => join(root, source))]);
  return path;
}
