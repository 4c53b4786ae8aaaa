/** `newleaf backup …` and `newleaf cert unvouched …` as an operator types them. */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { backupJob } from "../../../../server/jobs/backups.ts";
import { type OperatorCommands, operatorCommands } from "../../../support/operator-commands.ts";
import { startService, type TestService } from "../../../support/service.ts";
import { newleaf } from "../../../support/terminal.ts";

interface Backup {
  readonly path: string;
  readonly encrypted: boolean;
  readonly holdsKeys: boolean;
}

const day = 86_400_000;

describe("backups on the command line", () => {
  let service: TestService;
  let operator: OperatorCommands;
  before(async () => {
    service = await startService();
    operator = operatorCommands(service);
  });
  after(() => service[Symbol.asyncDispose]());

  it("creates, lists, verifies and restores", async () => {
    const made = await operator.json<Backup>("backup", "create");
    assert.deepEqual([made.encrypted, made.holdsKeys], [false, false]);
    assert.ok((await operator.must(["backup", "list"])).includes("CERTIFICATES"));
    assert.deepEqual(
      (await operator.json<Backup[]>("backup", "list")).map(({ path }) => path),
      [made.path],
    );
    const [headings, row] = (await operator.must(["backup", "list", "--csv"])).split("\r\n");
    assert.ok(headings?.startsWith("name,path,") === true && row?.includes(made.path) === true, row);
    const verified = await newleaf(["backup", "verify", made.path]);
    assert.deepEqual([verified.code, verified.out.includes("FAILED")], [0, false], verified.err);

    const target = join(service.dir, "restored");
    const keys = join(service.dataDir, "issuers");
    assert.match((await newleaf(["backup", "restore", made.path, "--data", target])).err, /--keys/);
    assert.equal((await newleaf(["backup", "restore", made.path])).code, 2);
    const both = await newleaf(["backup", "restore", made.path, "--data", target, "--no-journal", "--journal", keys]);
    assert.deepEqual([both.code, /either --journal DIR or --no-journal/.test(both.err)], [2, true], both.err);
    const restored = await newleaf(["backup", "restore", made.path, "--data", target, "--keys", keys]);
    assert.equal(restored.code, 0, restored.err);
    assert.match(restored.out, /NOT COMPLETE: there was no journal/);
    assert.match(restored.out, /give `journal` a new, empty directory[\s\S]*newleaf operator rescue ID --data/);
    const again = await newleaf(["backup", "restore", made.path, "--data", target, "--keys", keys]);
    assert.deepEqual([again.code, /already holds/.test(again.err)], [1, true]);
  });

  it("encrypts for a key that it makes, and opens with no other", async () => {
    const [mine, other] = [join(service.dir, "mine.txt"), join(service.dir, "other.txt")];
    const recipient = (await newleaf(["backup", "key", "--out", mine])).out.trim();
    assert.match(recipient, /^age1[0-9a-z]+$/);
    assert.equal(statSync(mine).mode & 0o777, 0o600);
    await newleaf(["backup", "key", "--out", other]);
    assert.equal((await newleaf(["backup", "key", "--out", mine])).code, 1, "an identity is never overwritten");
    assert.ok(readFileSync(mine, "utf8").includes(recipient));

    const out = join(service.dir, "elsewhere");
    assert.match((await operator.command(["backup", "create", "--out", out])).err, /make the directory first/);
    mkdirSync(out, { mode: 0o700 });
    const made = await operator.json<Backup>("backup", "create", "--out", out, "--recipient", recipient);
    assert.deepEqual([made.encrypted, made.holdsKeys], [true, true]);
    assert.equal((await newleaf(["backup", "verify", made.path, "--identity-file", mine])).code, 0);
    const refused = await newleaf(["backup", "verify", made.path, "--identity-file", other, "--json"]);
    assert.deepEqual([refused.code, (JSON.parse(refused.out) as { ok: boolean }).ok], [1, false]);
    assert.match(refused.err, /Not verified: .* keep an older one/);
    assert.equal((await operator.command(["backup", "create", "--recipient", "age1xyz"])).code, 1);
  });

  it("makes up a night that was missed, once, and lets a new authority wait for its first", async () => {
    await using fresh = await startService({ NEWLEAF_BACKUP_SCHEDULE: "17 3 * * *" });
    const { authority } = fresh.server;
    const job = backupJob(authority);
    await job.run();
    assert.deepEqual(await authority.backups.list(), []);
    fresh.clock.advance(3 * day);
    await job.run();
    await job.run();
    assert.equal((await authority.backups.list()).length, 1);
    fresh.clock.advance(day);
    await job.run();
    assert.equal((await authority.backups.list()).length, 2);
    const { items } = await fresh.admin<{ items: { actor: string }[] }>("GET", "/v1/audit?action=backup.created");
    assert.deepEqual(
      items.map(({ actor }) => actor),
      ["system", "system"],
    );
  });

  it("says that nothing is unvouched, and of what it does not know that it does not", async () => {
    assert.match(await operator.must(["cert", "unvouched", "list"]), /no unvouched leaves/);
    for (const act of ["adopt", "revoke"]) {
      const { code, err } = await operator.command(["cert", "unvouched", act, "4f1c09d2aa", "--yes"]);
      assert.deepEqual([code, /serial-unknown/.test(err)], [1, true], err);
    }
  });

  it("creates one itself when the service is stopped", async () => {
    await service.server[Symbol.asyncDispose]();
    const out = join(service.dir, "offline");
    mkdirSync(out, { mode: 0o700 });
    const made = await operator.json<Backup>("backup", "create", "--out", out);
    const verified = await newleaf(["backup", "verify", made.path]);
    assert.equal(verified.code, 0, verified.out);
    assert.ok(!verified.out.includes("not signed"));
  });
});
