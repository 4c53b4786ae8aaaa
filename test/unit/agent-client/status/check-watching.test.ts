/** `newleaf-agent check` of canaries and of the textfile's place. */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { canaryProblems, textfileProblem } from "../../../../agent-client/status/check-watching.ts";
import { needs } from "../../../support/programs.ts";
import { temporaryDirectory } from "../../../support/temporary-directory.ts";
import { certificatePem, keyPem, makeTestCa } from "../../../support/test-ca.ts";

const directory = temporaryDirectory("check-watching");
const at = (name: string): string => join(directory, name);

test(
  "canaries whose files are missing, no pair or expired are named before they are needed",
  { skip: needs("openssl") },
  async () => {
    const { intermediate } = makeTestCa(directory);
    const hour = 3_600_000;
    const leaf = intermediate.issue();
    const old = intermediate.issue({ notBefore: Date.now() - 2 * hour, notAfter: Date.now() - hour });
    for (const [name, one] of Object.entries({ leaf, old })) {
      writeFileSync(at(`${name}.crt`), certificatePem(one.certificate));
      writeFileSync(at(`${name}.key`), keyPem(one.key), { mode: 0o600 });
    }
    const files = (certificate: string, key: string) => ({ certificate: at(certificate), key: at(key) });
    const problems = (revoked: ReturnType<typeof files>) =>
      canaryProblems({ good: "own", revoked, accept: [200] }, Date.now());
    assert.deepEqual(await problems(files("leaf.crt", "leaf.key")), []);
    assert.match((await problems(files("leaf.crt", "old.key"))).join(), /leaf\.crt and .*old\.key are no pair/);
    assert.match((await problems(files("old.crt", "old.key"))).join(), /old\.crt expired at .* and proves nothing/);
    assert.match((await problems(files("none.crt", "old.key"))).join(), /cannot be used: ENOENT/);
  },
);

test("a textfile needs a directory that is there and can be written in", async () => {
  mkdirSync(at("there"));
  writeFileSync(at("file"), "");
  assert.equal(await textfileProblem(at("there/newleaf.prom")), null);
  assert.match(
    (await textfileProblem(at("nowhere/newleaf.prom"))) ?? "",
    /nowhere does not exist; make it, and name it to node_exporter/,
  );
  assert.match((await textfileProblem(at("file/newleaf.prom"))) ?? "", /is not a directory/);
});
