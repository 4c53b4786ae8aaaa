import assert from "node:assert/strict";
import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { runCheck, validateCheck } from "../../../../agent-client/reload/check.ts";
import { runProgram } from "../../../../agent-client/reload/run-program.ts";
import { startServer } from "../../../../agent-client/reload/start.ts";
import { describe as inWords, reload, validate } from "../../../../agent-client/reload/drivers.ts";
import { temporaryDirectory } from "../../../support/temporary-directory.ts";

describe("reload by command and systemd", () => {
  const directory = temporaryDirectory("program");
  /** Where another systemctl is found. */
  const other = temporaryDirectory("other-programs");
  const script = (name: string, ...lines: readonly string[]): string => {
    const path = join(directory, name);
    writeFileSync(path, `#!/bin/sh\n${lines.join("\n")}\n`);
    chmodSync(path, 0o755);
    return path;
  };
  const command = (argv: readonly string[], timeoutMs = 5000) => ({ kind: "command", argv, timeoutMs }) as const;
  /** Waits until the process is gone. */
  const gone = async (pid: number): Promise<boolean> => {
    for (let tries = 0; tries < 200 && existsSync(`/proc/${pid}/stat`); tries += 1) {
      if (readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z ")) return true;
      await sleep(10);
    }
    return !existsSync(`/proc/${pid}/stat`);
  };

  it("takes exit code 0 for done, and says what else there was", async () => {
    assert.deepEqual(await reload(command(["true"])), { ok: true, detail: "true ended well" });
    const failed = await reload(command([script("fails", "echo said >&2", "exit 3")]));
    assert.equal(failed.ok, false);
    assert.match(failed.detail, /fails ended with exit code 3: said$/);
    assert.match((await reload(command([script("killed", "kill -9 $$")]))).detail, /ended with SIGKILL/);
  });

  it("tells a server that said no from one that could not be told", async () => {
    assert.equal((await reload(command(["false"]))).refused, true);
    assert.equal((await reload(command([script("not-there", "no-such-program")]))).refused, undefined, "exit code 127");
    assert.equal((await reload(command(["/no/such/program"]))).refused, undefined);
    assert.equal((await reload(command([script("ended", "kill -9 $$")]))).refused, undefined);
    assert.equal((await reload(command([script("hangs", "sleep 60")], 100))).refused, undefined);
    const systemd = (said: string) => {
      const path = join(other, "systemctl");
      writeFileSync(path, `#!/bin/sh\necho "${said}" >&2\nexit 1\n`, { mode: 0o755 });
      const strategy = { kind: "systemd", unit: "nginx.service", timeoutMs: 5000 } as const;
      return reload(strategy, { searchPath: `${other}:/usr/bin:/bin` });
    };
    assert.equal((await systemd("Job for nginx.service failed.")).refused, true);
    assert.equal((await systemd("Failed to connect to bus: No such file or directory")).refused, undefined);
    assert.equal((await systemd("nginx.service is not active, cannot reload.")).refused, undefined);
  });

  it("starts a server by the command of start, else by its unit, else not at all", async () => {
    const trace = join(directory, "trace");
    writeFileSync(join(other, "systemctl"), `#!/bin/sh\necho "$@" >> ${trace}\n`, { mode: 0o755 });
    const options = { searchPath: `${other}:/usr/bin:/bin` };
    const unit = { kind: "systemd", unit: "apache2.service", timeoutMs: 5000 } as const;
    assert.equal((await startServer({ reload: unit, start: null }, options))?.ok, true);
    assert.equal(
      readFileSync(trace, "utf8"),
      "--no-ask-password reset-failed apache2.service\n--no-ask-password start apache2.service\n",
    );
    const own = await startServer({ reload: unit, start: ["false"] }, options);
    assert.deepEqual([own?.ok, readFileSync(trace, "utf8").split("\n").length], [false, 3], "the command goes first");
    assert.equal(await startServer({ reload: { kind: "watch" }, start: null }, options), null);
  });

  it("gives a program what it is to know, and nothing of the agent's own environment", async () => {
    const searchPath = "/usr/bin:/bin";
    process.env["NEWLEAF_TOKEN"] = "secret";
    try {
      const { output, exitCode } = await runProgram(["env"], { timeoutMs: 5000, searchPath, env: { NEWLEAF_X: "y" } });
      assert.match(output, /^NEWLEAF_X=y$/m);
      assert.doesNotMatch(output, /secret/);
      assert.equal(exitCode, 0);
    } finally {
      delete process.env["NEWLEAF_TOKEN"];
    }
  });

  it("passes arguments as they are: no shell", async () => {
    const path = script("argv", 'for a in "$@"; do printf "[%s]" "$a"; done');
    const { detail } = await reload(command([path, "$(id)", "a b", ";", "*"]));
    assert.ok(detail.endsWith(": [$(id)][a b][;][*]"), detail);
  });

  it("shows the command neither stdin nor the agent's environment", async () => {
    process.env["NEWLEAF_TOKEN"] = "nl1.secret";
    try {
      const path = script("environment", `cat; env > ${join(directory, "seen")}`);
      assert.equal((await reload(command([path]))).ok, true);
      const seen = readFileSync(join(directory, "seen"), "utf8");
      assert.ok(!seen.includes("secret"), seen);
      assert.match(seen, /^PATH=.*\/usr\/sbin/m);
    } finally {
      delete process.env["NEWLEAF_TOKEN"];
    }
  });

  it("ends the whole group when the time is over, also one that ignores SIGTERM", async () => {
    const pidFile = join(directory, "grandchild");
    const path = script("slow", `trap "" TERM`, "sleep 60 &", `echo $! > ${pidFile}`, "wait", "wait");
    const began = Date.now();
    const result = await reload(command([path], 200));
    assert.equal(result.ok, false);
    assert.match(result.detail, /took longer than 0\.2 s and was ended/);
    assert.ok(Date.now() - began < 5000);
    assert.ok(await gone(Number(readFileSync(pidFile, "utf8"))));
  });

  it("does not wait for a daemon that the command left behind with its output open", async () => {
    const pidFile = join(directory, "daemon");
    const path = script("starts-daemon", "sleep 30 &", `echo $! > ${pidFile}`, "echo started");
    const began = Date.now();
    const result = await reload(command([path]));
    assert.ok(Date.now() - began < 2000);
    assert.equal(result.ok, true);
    assert.match(result.detail, /: started$/);
    process.kill(Number(readFileSync(pidFile, "utf8")));
  });

  it("keeps the output short and on one line, and lets the program finish writing", async () => {
    const path = script("talks", `printf 'a\\nb\\033[31m'; head -c 300000 /dev/zero | tr '\\0' x`);
    const result = await reload(command([path]));
    assert.equal(result.ok, true);
    assert.match(result.detail, /: a b \[31mx+…$/);
    assert.ok(result.detail.length < 700);
  });

  it("ends the command when the agent stops", async () => {
    const stop = new AbortController();
    const path = script("waits", `echo $$ > ${join(directory, "waiting")}`, "exec sleep 60");
    const running = reload(command([path]), { signal: stop.signal });
    while (!existsSync(join(directory, "waiting"))) await sleep(5);
    stop.abort();
    assert.match((await running).detail, /agent is stopping/);
    assert.match((await reload(command([path]), { signal: stop.signal })).detail, /was not run/);
  });

  it("finds programs of sbin, and says what is wrong with those it cannot run", async () => {
    const plain = join(directory, "plain");
    writeFileSync(plain, "");
    assert.deepEqual(await validate(command(["true"])), []);
    assert.match(String(await validate(command(["no-such-program"]))), /in none of .*\/usr\/sbin/);
    assert.match(String(await validate(command(["./here"]))), /relative path/);
    assert.match(String(await validate(command([plain]))), /may not be run/);
    assert.match(String(await validate(command([]))), /empty/);
    assert.match((await reload(command(["no-such-program"]))).detail, /in none of/);
    assert.equal(inWords(command(["nginx", "-s", "reload"])), "nginx -s reload");
  });

  it("runs the configuration check the same way", async () => {
    assert.equal((await runCheck(["true"])).ok, true);
    const path = script("check", "echo '[emerg] key values mismatch' >&2", "exit 1");
    assert.deepEqual(await validateCheck([path]), []);
    assert.match((await runCheck([path])).detail, /exit code 1: \[emerg\] key values mismatch/);
    assert.match(String(await validateCheck(["nowhere"])), /in none of/);
  });

  describe("systemd", () => {
    const log = join(directory, "systemctl.log");
    const answers = join(directory, "systemctl.answers");
    script("systemctl", `echo "$@" >> ${log}`, `[ "$1" = show ] && cat ${answers}`, '[ "$3" != broken.service ]');
    const unit = (name: string) => ({ kind: "systemd", unit: name, timeoutMs: 5000 }) as const;
    const context = { searchPath: `${directory}:/usr/bin:/bin` };
    const says = (text: string): void => writeFileSync(answers, text);

    it("reloads the unit and nothing else", async () => {
      assert.equal((await reload(unit("nginx.service"), context)).ok, true);
      assert.equal(readFileSync(log, "utf8"), "--no-ask-password reload nginx.service\n");
      assert.equal((await reload(unit("broken.service"), context)).ok, false);
      assert.equal(inWords(unit("nginx.service")), "systemctl reload nginx.service");
    });

    it("refuses what is not a unit's name, before anything is run", async () => {
      const before = readFileSync(log, "utf8");
      for (const name of ["", "--help", "-H host", "a b", "nginx.service;id", "x".repeat(300)]) {
        assert.match((await reload(unit(name), context)).detail, /not the name of a systemd unit/, name);
        assert.equal((await validate(unit(name), context)).length, 1);
      }
      assert.equal(readFileSync(log, "utf8"), before);
      assert.equal((await reload(unit("haproxy@edge-1.service"), context)).ok, true);
    });

    it("says when a unit is missing, stopped or cannot be reloaded", async () => {
      says("LoadState=loaded\nActiveState=active\nCanReload=yes\n");
      assert.deepEqual(await validate(unit("nginx.service"), context), []);
      says("LoadState=not-found\nActiveState=inactive\nCanReload=no\n");
      assert.match(String(await validate(unit("nginx.service"), context)), /no unit nginx\.service/);
      says("LoadState=loaded\nActiveState=failed\nCanReload=no\n");
      assert.match(String(await validate(unit("nginx.service"), context)), /not running/);
      says("LoadState=loaded\nActiveState=active\nCanReload=no\n");
      assert.match(String(await validate(unit("nginx.service"), context)), /no ExecReload=/);
      assert.match(String(await validate(unit("nginx.service"), { searchPath: "/nowhere" })), /systemctl is in none/);
    });
  });
});
