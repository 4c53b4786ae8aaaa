import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { speakingLeaf } from "../../../agent-client/decide/leaves.ts";
import { openJournal, parseJournal, readJournal } from "../../../agent-client/journal.ts";
import { held } from "../../support/held-leaf.ts";
import { temporaryDirectory } from "../../support/temporary-directory.ts";

const directory = temporaryDirectory("journal");

test("a journal that is not there is blank, and reading one makes nothing", async () => {
  const journal = await readJournal(join(directory, "none"));
  assert.deepEqual([journal.step, journal.current, journal.next], ["idle", null, null]);
  assert.deepEqual(readdirSync(directory), []);
});

test("what was written is read back by the next process, and nobody else may read it", async () => {
  const path = join(directory, "a");
  const journal = await openJournal(path);
  await journal.update({ step: "asked", current: held("x"), token: "hash", stuck: "v1" });
  assert.deepEqual(await readJournal(path), journal.state);
  assert.equal(statSync(path).mode & 0o777, 0o700);
  assert.equal(statSync(join(path, "journal.json")).mode & 0o777, 0o600);
});

test("an update without a change writes nothing", async () => {
  const path = join(directory, "b");
  const journal = await openJournal(path);
  await journal.update({ step: "due" });
  const { ino } = statSync(join(path, "journal.json"));
  await journal.update({ step: "due" });
  assert.equal(statSync(join(path, "journal.json")).ino, ino);
});

test("a failed write leaves the journal in memory as it is on disk", async () => {
  const path = join(directory, "c");
  const journal = await openJournal(path);
  await journal.update({ step: "due" });
  const broken = await openJournal(path);
  const before = readFileSync(join(path, "journal.json"), "utf8");
  const cyclic: Record<string, unknown> = {};
  cyclic["self"] = cyclic;
  await assert.rejects(broken.update({ served: cyclic as never }));
  assert.equal(broken.state.served, null);
  assert.equal(readFileSync(join(path, "journal.json"), "utf8"), before);
});

test("a damaged journal is refused with what to do, never read as a blank one", async () => {
  const path = join(directory, "d");
  const journal = await openJournal(path);
  await journal.update({ current: held("x") });
  const text = readFileSync(join(path, "journal.json"), "utf8");
  for (const damaged of [
    "",
    "{",
    "[]",
    "null",
    text.slice(0, -5),
    text.replace('"format":1', '"format":2'),
    text.replace('"idle"', '"flying"'),
    text.replace(/"notAfter":\d+/, '"notAfter":"x"'),
    text.replace('"retries":{', '"retries":7,"x":{'),
  ]) {
    writeFileSync(join(path, "journal.json"), damaged);
    await assert.rejects(openJournal(path), /is not a journal of this agent .*enroll again/s, damaged.slice(0, 40));
  }
});

test("a journal of an older version has the fields it lacks", () => {
  const journal = parseJournal('{"format":1,"step":"served"}');
  assert.equal(journal.retries.serve.failures, 0);
  assert.equal(journal.nextUsed, false);
});

test("what was announced and what was taken back are known to the next process", async () => {
  const path = join(directory, "e");
  const journal = await openJournal(path);
  const quarantine = { version: "v2", row: "broke", since: 1, detail: "d", contents: null, leaf: "x", clients: null };
  await journal.update({ announced: { fingerprint: "x", at: 5 }, quarantine, reloadSuspect: true, step: "announced" });
  assert.deepEqual(await readJournal(path), journal.state);
  for (const damage of ['{"format":1,"step":"idle","quarantine":"x"}', '{"format":1,"step":"idle","announced":5}'])
    assert.throws(() => parseJournal(damage), /is not what it should be/);
});

test("the agent speaks with the old leaf until the new one has spoken, and never with the old one again", () => {
  const [current, next] = [held("old"), held("new", { notAfter: 600 })];
  assert.equal(speakingLeaf({ current, next, nextUsed: false }, 10)?.fingerprint, "old");
  assert.equal(speakingLeaf({ current, next, nextUsed: true }, 10)?.fingerprint, "new");
  assert.equal(speakingLeaf({ current: null, next, nextUsed: false }, 10)?.fingerprint, "new");
  assert.equal(speakingLeaf({ current, next: null, nextUsed: false }, 300), null, "expired");
});
