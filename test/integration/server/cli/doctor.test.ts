/** `newleaf doctor` on a real data directory, with the service running and stopped. What each check makes of its facts: test/unit. */
import assert from "node:assert/strict";
import { appendFileSync, chmodSync, mkdirSync, openSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { operatorCommands, type OperatorCommands } from "../../../support/operator-commands.ts";
import { startService, type TestService } from "../../../support/service.ts";
import { newleaf } from "../../../support/terminal.ts";

interface Diagnosis {
  readonly findings: readonly { readonly check: string; readonly grade: string; readonly says: string }[];
  readonly leftOut: readonly { readonly check: string; readonly why: string }[];
  readonly failures: number;
}

let service: TestService;
let commands: OperatorCommands;
const doctor = async (...more: string[]): Promise<{ code: number; diagnosis: Diagnosis }> => {
  const { code, out } = await commands.command(["doctor", "--json", ...more]);
  return { code, diagnosis: JSON.parse(out) as Diagnosis };
};
const grades = ({ findings }: Diagnosis, grade: string) =>
  findings.filter((finding) => finding.grade === grade).map(({ check }) => check);

suite("newleaf doctor", () => {
  before(async () => {
    service = await startService();
    commands = operatorCommands(service);
  });
  after(() => service[Symbol.asyncDispose]());

  test("a service as it was founded lacks a journal and a backup, and everything else holds", async () => {
    const { code, diagnosis } = await doctor();
    assert.equal(code, 1);
    assert.deepEqual(grades(diagnosis, "failure"), ["journal", "backups"]);
    assert.deepEqual(grades(diagnosis, "warning"), ["root key", "backup place", "backup place", "checkpoints"]);
    for (const check of [
      "configuration",
      "permissions",
      "ownership",
      "database",
      "issuer keys",
      "CRLs",
      "issuer horizon",
    ])
      assert.ok(grades(diagnosis, "ok").includes(check), check);
    for (const check of ["running as on disk", "service certificate", "service"])
      assert.ok(grades(diagnosis, "ok").includes(check), check);
    assert.deepEqual(diagnosis.leftOut, [{ check: "clock", why: "there is nothing to go by yet" }]);

    const { out, err } = await commands.command(["doctor"]);
    assert.match(out, /^FAIL {2}journal +there is no journal\n +why: .*\n +do: {2}give `journal`/m);
    assert.match(out, /^\d+ ok, 4 warnings, 2 failures$/m);
    assert.match(err, /doctor found 2 failures \(conflict\)/);
  });

  test("with a journal, a backup elsewhere and the root carried away it passes; --strict counts warnings", async () => {
    const journal = join(service.dir, "journal");
    mkdirSync(journal, { mode: 0o700 });
    await using whole = await startService({
      NEWLEAF_JOURNAL: journal,
      NEWLEAF_AUDIT_CHECKPOINTS_FILE: join(service.dir, "checkpoints"),
    });
    rmSync(join(whole.dataDir, "offline", "root.key.pem"));
    await operatorCommands(whole).must(["backup", "create"]);
    const env = { env: { NEWLEAF_JOURNAL: journal, NEWLEAF_AUDIT_CHECKPOINTS_FILE: join(service.dir, "checkpoints") } };
    const passed = await newleaf(["doctor", "--data", whole.dataDir], env);
    assert.equal(passed.code, 0, passed.out);
    assert.match(passed.out, /^warn {2}journal +.*same disk/m);
    const strict = await newleaf(["doctor", "--strict", "--data", whole.dataDir], env);
    assert.deepEqual([strict.code, /which --strict does not let pass/.test(strict.err)], [1, true]);
  });

  test("a changed configuration, open keys and a database that was written over are found", async () => {
    appendFileSync(join(service.dataDir, "newleaf.yml"), "# changed\n");
    chmodSync(join(service.dataDir, "newleaf.db"), 0o644);
    const { diagnosis } = await doctor();
    assert.ok(grades(diagnosis, "warning").includes("running as on disk"));
    assert.ok(grades(diagnosis, "failure").includes("permissions"));
    chmodSync(join(service.dataDir, "newleaf.db"), 0o600);
    appendFileSync(join(service.dataDir, "newleaf.yml"), "lisen: {}\n");
    const wrong = await doctor();
    const fault = wrong.diagnosis.findings.find(({ check, grade }) => check === "configuration" && grade === "failure");
    assert.match(fault?.says ?? "", /did you mean listen/);
    assert.ok(wrong.diagnosis.leftOut.some(({ check }) => check === "bind addresses"));
  });

  test("stopped, it says what it left out; a damaged file is a failure", async () => {
    await using stopped = await startService();
    await operatorCommands(stopped).enrolled("one");
    await stopped.server[Symbol.asyncDispose]();
    const look = async () =>
      JSON.parse((await newleaf(["doctor", "--json", "--data", stopped.dataDir])).out) as Diagnosis;
    const { leftOut, findings } = await look();
    assert.deepEqual(
      leftOut.filter(({ why }) => why === "the service is stopped").map(({ check }) => check),
      ["running as on disk", "service certificate", "service"],
    );
    assert.equal(findings.find(({ check }) => check === "database")?.grade, "ok");
    const file = openSync(join(stopped.dataDir, "newleaf.db"), "r+");
    for (let page = 20; page < 60; page++) writeSync(file, Buffer.alloc(2000, 0xa5), 0, 2000, page * 4096 + 100);
    assert.equal((await look()).findings.find(({ check }) => check === "database")?.grade, "failure");
  });

  test("nothing founded is said, with what to do", async () => {
    const { code, err } = await newleaf(["doctor", "--data", join(service.dir, "nowhere")]);
    assert.deepEqual([code, /--data/.test(err)], [1, true]);
  });
});
