/** The file for node_exporter: replaced whole, readable for others, fresh, and never a reason to stop. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { createLog } from "../../../agent-client/log.ts";
import { type CertificateMetrics, renderMetrics } from "../../../agent-client/metrics.ts";
import { openTextfile } from "../../../agent-client/textfile.ts";
import { findProgram, needs } from "../../support/programs.ts";
import { temporaryDirectory } from "../../support/temporary-directory.ts";

describe("the textfile", () => {
  const directory = temporaryDirectory("textfile");
  let count = 0;
  const open = (render: () => string, options: { everyMs?: number; settleMs?: number } = {}) => {
    count += 1;
    const home = join(directory, String(count));
    const path = join(home, "newleaf.prom");
    mkdirSync(home);
    const lines: string[] = [];
    const log = createLog((line) => void lines.push(line), Date.now);
    return { home, path, lines, file: openTextfile({ path, render, log, ...options }) };
  };

  it("is written once for changes that come together, replaced whole, and readable for others whatever the umask", async () => {
    let renders = 0;
    const { home, path, file } = open(() => `a ${(renders += 1)}\n`, { settleMs: 20 });
    const before = process.umask(0o077);
    try {
      file.changed();
      file.changed();
      await sleep(60);
      assert.equal(readFileSync(path, "utf8"), "a 1\n");
      assert.equal(statSync(path).mode & 0o777, 0o644);
      const { ino } = statSync(path);
      file.changed();
      await sleep(60);
      assert.equal(readFileSync(path, "utf8"), "a 2\n");
      assert.notEqual(statSync(path).ino, ino, "never written in place");
    } finally {
      process.umask(before);
    }
    assert.deepEqual(readdirSync(home), ["newleaf.prom"]);
  });

  it("opens no file to others for a link that the directory's owner puts in its place", async () => {
    const { home, path, file } = open(() => "a 1\n", { settleMs: 0 });
    const secret = join(directory, "secret");
    writeFileSync(secret, "", { mode: 0o600 });
    const temporary = join(home, ".newleaf.prom.newleaf");
    const attacker = new Worker(
      `const { renameSync, symlinkSync } = require("node:fs");
       for (const end = Date.now() + 700; Date.now() < end; )
         try { renameSync(${JSON.stringify(temporary)}, ${JSON.stringify(path)}); symlinkSync(${JSON.stringify(secret)}, ${JSON.stringify(temporary)}); } catch {}`,
      { eval: true },
    );
    let isOver = false;
    attacker.once("exit", () => (isOver = true));
    while (!isOver) {
      file.changed();
      await sleep(1);
    }
    await file[Symbol.asyncDispose]();
    assert.equal(statSync(secret).mode & 0o777, 0o600);
  });

  it("is written when it is closed, if there was anything to write", async () => {
    const used = open(() => "b 1\n", { settleMs: 60_000 });
    {
      await using file = used.file;
      file.changed();
    }
    assert.equal(readFileSync(used.path, "utf8"), "b 1\n");
    const unused = open(() => "b 1\n");
    await unused.file[Symbol.asyncDispose]();
    assert.deepEqual(readdirSync(unused.home), []);
  });

  it("stays fresh while the agent runs, and grows old when it stops", async () => {
    let renders = 0;
    const { path, file } = open(() => `c ${(renders += 1)}\n`, { everyMs: 20 });
    const stopping = new AbortController();
    const running = file.keepFresh(stopping.signal);
    while (renders < 3) await sleep(5);
    stopping.abort();
    await running;
    await sleep(30);
    const last = readFileSync(path, "utf8");
    await sleep(60);
    assert.equal(readFileSync(path, "utf8"), last);
  });

  it("that cannot be written is said once, with what to do, and written again when it can be", async () => {
    const { home, path, lines, file } = open(() => "d 1\n", { settleMs: 1 });
    rmSync(home, { recursive: true });
    for (let tries = 0; tries < 3; tries += 1) {
      file.changed();
      await sleep(20);
    }
    assert.equal(lines.length, 1, lines.join(""));
    assert.match(lines[0] ?? "", /error no-textfile .*does not exist; make it, and name it to node_exporter/);
    mkdirSync(home);
    // What a crash left behind is no obstacle.
    writeFileSync(join(home, ".newleaf.prom.newleaf"), "half");
    file.changed();
    await sleep(20);
    assert.match(lines[1] ?? "", /info textfile-again/);
    assert.equal(readFileSync(path, "utf8"), "d 1\n");
    assert.deepEqual(readdirSync(home), ["newleaf.prom"]);
  });

  it("is what promtool takes for metrics", { skip: needs("promtool") }, () => {
    const certificate: CertificateMetrics = {
      name: "gateway",
      notAfter: 1_800_000_000_123,
      servedMatches: true,
      reloadPending: false,
      crlNextUpdate: 1_790_000_000_000,
      canary: { good: true, revoked: false },
      attempts: { served: 2 },
    };
    const input = renderMetrics([certificate, { ...certificate, name: "db", canary: { good: null, revoked: null } }]);
    assert.match(input, /^newleaf_agent_canary\{certificate="gateway",client="revoked"\} 0$/m);
    assert.doesNotMatch(input, /canary\{certificate="db"/);
    const said = execFileSync(findProgram("promtool") ?? "promtool", ["check", "metrics"], { input, encoding: "utf8" });
    assert.equal(said, "");
  });
});
