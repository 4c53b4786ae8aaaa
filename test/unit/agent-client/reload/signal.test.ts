import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  constants,
  copyFileSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { reloadBySignal, validateSignal } from "../../../../agent-client/reload/signal.ts";
import type { ReloadSignal } from "../../../../agent-client/reload/strategy.ts";
import { findProgram } from "../../../support/programs.ts";
import { temporaryDirectory } from "../../../support/temporary-directory.ts";

describe("reload by signal", () => {
  const directory = temporaryDirectory("signal");
  const children: ChildProcess[] = [];
  after(() => children.forEach((child) => child.kill("SIGKILL")));

  /** A shell under another name that writes each signal it gets to a file. */
  const startServer = async (
    name = "proxyd",
  ): Promise<{ pid: number; pidFile: string; exe: string; got(): Promise<string> }> => {
    const home = join(directory, `server-${children.length}`);
    mkdirSync(home);
    const exe = join(home, name);
    copyFileSync(findProgram("dash") ?? "/bin/sh", exe);
    const log = join(directory, `got-${children.length}`);
    writeFileSync(log, "");
    const traps = ["HUP", "USR1", "USR2"].map((signal) => `trap 'echo ${signal} >> ${log}' ${signal}`);
    const child = spawn(exe, ["-c", `${traps.join("; ")}; echo up; while :; do read -r line; done`], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    children.push(child);
    await once(child.stdout, "data");
    const pid = child.pid ?? 0;
    const pidFile = join(directory, `pid-${children.length}`);
    writeFileSync(pidFile, `${pid}\n`);
    const got = async (): Promise<string> => {
      for (let tries = 0; tries < 100 && readFileSync(log, "utf8") === ""; tries += 1) {
        child.stdin.write("\n");
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      return readFileSync(log, "utf8").trim();
    };
    return { pid, pidFile, exe, got };
  };
  const strategy = (pidFile: string, process: string, signal: ReloadSignal = "HUP") =>
    ({ kind: "signal", signal, pidFile, process }) as const;
  const refuses = async (pidFile: string, process: string, says: RegExp): Promise<void> => {
    const result = await reloadBySignal(strategy(pidFile, process));
    assert.equal(result.ok, false);
    assert.match(result.detail, says);
    assert.match(String(await validateSignal(strategy(pidFile, process))), says);
  };

  it("signals the process of the pid file, named by name or by path, and notes its uid", async () => {
    for (const by of ["name", "path"]) {
      const server = await startServer();
      const named = strategy(server.pidFile, by === "name" ? "proxyd" : server.exe);
      assert.deepEqual(await validateSignal(named), []);
      const result = await reloadBySignal(named);
      assert.deepEqual(result, {
        ok: true,
        detail: `sent HUP to proxyd, pid ${server.pid}, uid ${process.geteuid?.()}`,
      });
      assert.equal(await server.got(), "HUP");
    }
  });

  it("sends USR1 and USR2 when they are named", async () => {
    const server = await startServer();
    assert.equal((await reloadBySignal(strategy(server.pidFile, "proxyd", "USR2"))).ok, true);
    assert.equal(await server.got(), "USR2");
  });

  it("reads the first line only, as PostgreSQL's file needs", async () => {
    const server = await startServer();
    writeFileSync(server.pidFile, `${server.pid}\n/var/lib/postgresql\n5432\n`);
    assert.equal((await reloadBySignal(strategy(server.pidFile, "proxyd"))).ok, true);
    assert.equal(await server.got(), "HUP");
  });

  it("knows a name longer than the kernel keeps", async () => {
    const server = await startServer("a-very-long-server-name");
    assert.equal((await reloadBySignal(strategy(server.pidFile, "a-very-long-server-name"))).ok, true);
    await refuses(server.pidFile, "a-very-long-other-name", /is a-very-long-ser .*not a-very-long-other-name/);
  });

  it("never signals a process of another name or path", async () => {
    const server = await startServer();
    await refuses(server.pidFile, "nginx", /is proxyd .*not nginx: nothing was signalled/);
    await refuses(server.pidFile, "/usr/sbin/proxyd", /not \/usr\/sbin\/proxyd/);
    await refuses(server.pidFile, "proxy", /not proxy:/);
    assert.equal((await reloadBySignal(strategy(server.pidFile, "proxyd", "USR1"))).ok, true);
    assert.equal(await server.got(), "USR1");
  });

  it("never signals by a pid file that is missing, stale or nonsense", async () => {
    const pidFile = join(directory, "odd.pid");
    await refuses(join(directory, "none.pid"), "proxyd", /none\.pid is not there/);
    const ended = spawn("true", { stdio: "ignore" });
    await once(ended, "exit");
    for (const [text, says] of [
      [String(ended.pid), /no such process runs/],
      ["", /does not hold the pid/],
      ["0", /does not hold the pid/],
      ["-1", /does not hold the pid/],
      ["12 34", /does not hold the pid/],
      ["1e3", /does not hold the pid/],
      ["4294967296", /no such process runs/],
      [String(process.pid), /does not hold the pid/],
    ] as const) {
      writeFileSync(pidFile, text);
      await refuses(pidFile, "proxyd", says);
    }
  });

  it("refuses signals that are known to break the server or to do nothing, and names what reloads it", async () => {
    const server = await startServer("nginx");
    for (const [name, signal, says] of [
      ["nginx", "USR2", /second nginx master.*use signal: HUP/],
      ["nginx", "USR1", /reopens/],
      ["/usr/sbin/haproxy", "USR1", /close its listeners.*use signal: USR2/],
      ["apache2", "HUP", /cuts its connections.*use signal: USR1, which is graceful/],
      ["httpd", "HUP", /cuts its connections/],
      ["stunnel4", "USR1", /log/],
      ["hitch", "USR1", /kills Hitch/],
      ["hitch", "USR2", /kills Hitch/],
      ["mosquitto", "USR2", /subscriptions.*use signal: HUP/],
      ["postgres", "USR1", /PostgreSQL's own/],
      ["redis-server", "HUP", /nothing.*use reload: \{ redis/],
      ["caddy", "USR1", /nothing.*use reload: \{ caddy/],
      ["envoy", "HUP", /watched_directory/],
      ["traefik", "HUP", /ends Traefik.*touch/],
      ["vault", "USR2", /stack traces/],
    ] as const) {
      const result = await reloadBySignal(strategy(server.pidFile, name, signal));
      assert.match(result.detail, /nothing was signalled/, name);
      assert.match(result.detail, says);
      assert.equal(result.ok, false);
      assert.match(String(await validateSignal(strategy(server.pidFile, name, signal))), says);
    }
    assert.equal((await reloadBySignal(strategy(server.pidFile, "nginx", "HUP"))).ok, true);
    assert.equal(await server.got(), "HUP");
  });

  it("signals no Node program, OpenClaw, DefenseClaw or exporter at all, whatever the signal", async () => {
    for (const [name, says] of [
      ["node", /debugger/],
      ["openclaw", /reload: watch/],
      ["openclaw-gateway", /reload: watch/],
      ["defenseclaw", /the proxy in front of it/],
      ["node_exporter", /at each handshake/],
    ] as const) {
      const server = await startServer(name);
      for (const signal of ["HUP", "USR1", "USR2"] as const) {
        const { ok, detail } = await reloadBySignal(strategy(server.pidFile, name, signal));
        assert.equal(ok, false);
        assert.match(detail, /is never signalled/);
        assert.match(detail, says);
      }
      // The shell writes of a signal when it has read a line: the next signal that it may get is the only one it tells of.
      process.kill(server.pid, "SIGUSR2");
      assert.equal(await server.got(), "USR2");
    }
  });

  it("knows a Node program behind any title it gives itself", async () => {
    const title = "clawgate";
    const child = spawn(process.execPath, [
      "-e",
      `process.title = "${title}"; console.log("up"); setInterval(() => {}, 1e6)`,
    ]);
    children.push(child);
    await once(child.stdout, "data");
    const pidFile = join(directory, "titled.pid");
    writeFileSync(pidFile, String(child.pid));
    const { ok, detail } = await reloadBySignal(strategy(pidFile, title));
    assert.equal(ok, false);
    assert.match(detail, /node is never signalled/);
    assert.deepEqual([child.exitCode, child.signalCode], [null, null]);
  });

  it("refuses a zombie, and a process that was replaced under the same pid while it was looked at", async () => {
    const proc = join(directory, "proc");
    const pid = 424_242;
    const pidFile = join(directory, "fake.pid");
    writeFileSync(pidFile, String(pid));
    mkdirSync(join(proc, String(pid)), { recursive: true });
    writeFileSync(join(proc, String(pid), "comm"), "proxyd\n");
    symlinkSync("/opt/proxyd (deleted)", join(proc, String(pid), "exe"));
    const rest = "0 ".repeat(18);
    writeFileSync(join(proc, String(pid), "stat"), `${pid} (odd ) name) Z ${rest}777 0`);
    assert.match((await reloadBySignal(strategy(pidFile, "/opt/proxyd"), proc)).detail, /no such process runs/);

    // The name is a pipe: each reading of it waits for us, so the process can change between the two looks.
    const name = join(proc, String(pid), "comm");
    rmSync(name);
    execFileSync("mkfifo", [name]);
    const state = { startTime: 1000, over: false };
    const become = (startTime: number): void => {
      writeFileSync(join(proc, "new"), `${pid} (odd ) name) S ${rest}${startTime} 0`);
      renameSync(join(proc, "new"), join(proc, String(pid), "stat"));
    };
    become(state.startTime);
    const looked = reloadBySignal(strategy(pidFile, "/opt/proxyd"), proc).finally(() => (state.over = true));
    while (!state.over) {
      const pipe = openForReader(name);
      if (pipe !== null) {
        become((state.startTime += 1));
        writeSync(pipe, "proxyd\n");
        closeSync(pipe);
      }
      await sleep(2);
    }
    const result = await looked;
    assert.equal(result.ok, false);
    assert.match(result.detail, /process changed while it was looked at/);
  });

  it("checks its configuration", async () => {
    assert.match(String(await validateSignal(strategy("run/nginx.pid", "nginx"))), /relative path/);
    assert.match(String(await validateSignal(strategy("/run/nginx.pid", ""))), /process is empty/);
  });

  it("does not wait for a pid file that is a pipe, nor read a device to its end", async () => {
    const pipe = join(directory, "pipe");
    execFileSync("mkfifo", [pipe]);
    for (const pidFile of [pipe, "/dev/zero"]) {
      const { ok, detail } = await reloadBySignal(strategy(pidFile, "proxyd"));
      assert.deepEqual([ok, detail.includes("not a regular file")], [false, true]);
    }
  });
});

/** Null while nobody waits at the other end. */
function openForReader(path: string): number | null {
  try {
    return openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  } catch {
    return null;
  }
}
