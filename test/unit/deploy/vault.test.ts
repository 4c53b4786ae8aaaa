/** deploy/vault/newleaf-vault with a `vault` and a `systemctl` that write down how they were called. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { renderFiles } from "../../../agent-client/install/render.ts";
import { makeMaterial } from "../../support/material.ts";
import { needs } from "../../support/programs.ts";
import { temporaryDirectory } from "../../support/temporary-directory.ts";
import { makeTestCa } from "../../support/test-ca.ts";

const script = join(import.meta.dirname, "../../../deploy/vault/newleaf-vault");
const skip = needs("openssl");

/** `refuse`: calls of vault that begin so fail. */
function setUp(refuse = "nothing") {
  const home = temporaryDirectory("vault");
  const current = join(home, "current");
  const bin = join(home, "bin");
  for (const directory of [current, bin]) mkdirSync(directory);
  const material = makeMaterial(makeTestCa(home));
  const files = ["key.pem", "fullchain.pem", "ca.pem", "crl.pem"] as const;
  for (const [name, bytes] of renderFiles(material, files)) writeFileSync(join(current, name), bytes);
  const log = join(home, "log");
  const stub = (name: string, more: string): void =>
    writeFileSync(join(bin, name), `#!/bin/sh\necho "${name} $*" >>${log}\n${more}\n`, { mode: 0o755 });
  stub("systemctl", "");
  stub(
    "vault",
    `case "$*" in "${refuse}"*) exit 2;; login*) echo secret-token;; *crl=@*) cat "\${3#crl=@}" >>${log};; esac`,
  );
  const loaded = join(home, "client-ca.pem");
  return {
    current,
    loaded,
    run() {
      const { status, stderr } = spawnSync(script, [current, "https://127.0.0.1:8200", loaded], {
        env: { PATH: `${bin}:${process.env["PATH"] ?? ""}` },
        encoding: "utf8",
      });
      return { status, stderr, calls: readFileSync(log, "utf8") };
    },
  };
}

test("Vault is told of the pair by its unit, and of roots and each CRL by its API", { skip }, () => {
  const { status, stderr, calls } = setUp().run();
  assert.deepEqual([status, stderr], [0, ""]);
  const order = calls.split("\n").flatMap((line) => /^(?:systemctl|vault) (?:\S+ auth\S+|\S+)/.exec(line) ?? []);
  assert.deepEqual(order.slice(0, 4), [
    "systemctl reload",
    "vault login",
    "vault write auth/cert/certs/newleaf-agent",
    "vault write auth/cert/certs/newleaf",
  ]);
  const crls = order.filter((call) => /auth\/cert\/crls\/newleaf-[0-9a-f]{8}$/.test(call));
  assert.equal(new Set(crls).size, 2, "the root's too");
  assert.equal(calls.match(/BEGIN X509 CRL/g)?.length, 2, "one in each call");
  assert.equal(order.at(-1), "vault token");
  assert.doesNotMatch(calls, /secret-token|PRIVATE KEY/, "nothing secret in argv");
});

test(
  "what Vault could not be told is said as such: exit code 126 makes the agent keep the files and come again",
  { skip },
  () => {
    for (const refuse of ["login", "write auth/cert/certs/newleaf-agent", "write auth/cert/crls/"]) {
      const { status, stderr } = setUp(refuse).run();
      assert.equal(status, 126, refuse);
      assert.notEqual(stderr, "");
    }
  },
);

test(
  "roots that the listener reads at its start only are not called loaded before Vault was restarted",
  { skip },
  () => {
    const vault = setUp();
    writeFileSync(vault.loaded, "the roots of the last start\n");
    const { status, stderr } = vault.run();
    assert.equal(status, 126);
    assert.match(stderr, /restart Vault/);
    writeFileSync(vault.loaded, readFileSync(join(vault.current, "ca.pem")));
    assert.equal(vault.run().status, 0, "after the restart");
  },
);
