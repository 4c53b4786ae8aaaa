/** The journal of a running service: what is in it, what is not, and what the service says when it cannot be written. */
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { startService, type TestService } from "../../support/service.ts";

const outside = mkdtempSync(join(tmpdir(), "newleaf-outside-"));
after(() => rmSync(outside, { recursive: true }));
const journal = join(outside, "journal");

test("a service with a journal writes every act there, no secret, and is not ready without it", async () => {
  await using service = await startService({ NEWLEAF_JOURNAL: journal });
  const messages = (): string[] => service.log.map((entry) => String(entry["msg"]));
  assert.ok(messages().some((message) => message.startsWith("the journal begins here")));
  const token = await service.token("gateway-1");
  const text = journalText();
  assert.match(text, /"createToken"/);
  assert.match(text, /"gateway-1"/);
  assert.ok(!text.includes(token) && !/PRIVATE KEY/.test(text), "a token is in the journal by its hash only");
  assert.equal(await readiness(service), 200);

  renameSync(journal, `${journal}-away`);
  assert.equal(await readiness(service), 503);
  assert.match(await (await fetch(`${service.urls.ops}/metrics`)).text(), /^newleaf_journal_failing 1$/m);
  renameSync(`${journal}-away`, journal);
  assert.equal(await readiness(service), 200);
  assert.match(await (await fetch(`${service.urls.ops}/metrics`)).text(), /^newleaf_journal_failing 0$/m);
  assert.ok(messages().includes("the journal cannot be written; every write is refused"));
  assert.ok(messages().includes("the journal can be written again"));

  const before = journalText().length;
  await service.restart();
  assert.equal(messages().filter((message) => message.startsWith("the journal begins here")).length, 1);
  assert.ok(journalText().length > before, "it goes on after a restart");
});

function journalText(): string {
  return readdirSync(journal)
    .filter((name) => name.endsWith(".jsonl"))
    .map((name) => readFileSync(join(journal, name), "utf8"))
    .join("");
}

async function readiness(service: TestService): Promise<number> {
  return (await fetch(`${service.urls.ops}/readyz`)).status;
}
