import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { connect, type TLSSocket } from "node:tls";
import { initDataDir } from "../../../support/service.ts";
import { newleaf } from "../../../support/terminal.ts";

const scratch = mkdtempSync(join(tmpdir(), "newleaf-serve-"));
const dataDir = join(scratch, "data");
const launcher = join(import.meta.dirname, "../../../../bin/newleaf");
const anyPorts = Object.fromEntries(
  ["AGENTS", "ENROLLMENT", "ADMIN", "PUBLIC", "OPS"].map((name) => [`NEWLEAF_LISTEN_${name}`, "127.0.0.1:0"]),
);
const started: ChildProcess[] = [];

before(() => initDataDir(dataDir, scratch));
after(() => {
  for (const child of started) child.kill("SIGKILL");
  rmSync(scratch, { recursive: true });
});

interface Run {
  readonly pid: number;
  readonly listeners: Readonly<Record<string, string>>;
}

/** Starts the real program through its launcher; resolves at its ready line. */
async function serve(): Promise<{ readonly child: ChildProcess; readonly run: Run; readonly log: () => string }> {
  const child = spawn(launcher, ["serve", "--data", dataDir], {
    env: { ...process.env, ...anyPorts, NEWLEAF_NODE: process.execPath },
    stdio: ["ignore", "pipe", "pipe"],
  });
  started.push(child);
  let log = "";
  child.stdout.on("data", (chunk: Buffer) => (log += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (log += chunk.toString()));
  for (let waited = 0; !log.includes('"msg":"ready"'); waited += 20) {
    assert.ok(child.exitCode === null && waited < 20_000, log);
    await sleep(20);
  }
  return { child, run: JSON.parse(readFileSync(join(dataDir, "run.json"), "utf8")) as Run, log: () => log };
}

/** A connection that has begun a request and not ended it. */
async function begunRequest(address: string, roots: string): Promise<TLSSocket> {
  const [host = "", port = ""] = address.split(":");
  const socket = connect({ host, port: Number(port), ca: roots, servername: "localhost" });
  socket.on("error", () => undefined);
  await once(socket, "secureConnect");
  socket.write(
    "POST /v1/enrollments HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
  );
  await sleep(50);
  return socket;
}

suite("newleaf serve", () => {
  test("writes run.json with its own pid and real ports, logs one ready line, and stops cleanly on SIGTERM", async () => {
    const { child, run, log } = await serve();
    assert.equal(run.pid, child.pid, "the launcher execs: the pid is the program's own");
    assert.deepEqual(Object.keys(run.listeners).toSorted(), ["admin", "agents", "enrollment", "ops", "public"]);
    for (const address of Object.values(run.listeners)) assert.match(address, /^127\.0\.0\.1:[1-9]\d+$/);
    assert.equal(log().split('"msg":"ready"').length, 2);
    const status = await newleaf(["status", "--json", "--data", dataDir]);
    assert.equal(status.code, 0, status.err);

    child.kill("SIGTERM");
    const [code, signal] = (await once(child, "exit")) as [number | null, string | null];
    assert.deepEqual([code, signal], [0, null], log());
  });

  test("a second signal ends it at once though a request is still open", async () => {
    const { child, run } = await serve();
    const socket = await begunRequest(
      run.listeners["enrollment"] ?? "",
      readFileSync(join(dataDir, "roots.pem"), "utf8"),
    );
    child.kill("SIGINT");
    await sleep(150);
    assert.equal(child.exitCode, null, "it waits for what it has begun");
    child.kill("SIGINT");
    const [code] = (await once(child, "exit")) as [number | null];
    assert.equal(code, 1);
    socket.destroy();
  });

  test("stopped, the commands say how to start it; also when a kill left run.json behind", async () => {
    rmSync(join(dataDir, "run.json"), { force: true });
    const absent = await newleaf(["status", "--data", dataDir]);
    assert.deepEqual([absent.code, absent.err.includes(`newleaf serve --data ${dataDir}`)], [1, true], absent.err);
    const { child } = await serve();
    child.kill("SIGKILL");
    await once(child, "exit");
    assert.ok(existsSync(join(dataDir, "run.json")));
    const stale = await newleaf(["status", "--data", dataDir]);
    assert.deepEqual([stale.code, stale.err.includes(`newleaf serve --data ${dataDir}`)], [1, true], stale.err);
  });

  test("an address that is taken is an error that names it, exit code 1", async () => {
    rmSync(join(dataDir, "run.json"), { force: true });
    const other = createServer().listen(0, "127.0.0.1");
    await once(other, "listening");
    const address = `127.0.0.1:${(other.address() as AddressInfo).port}`;
    const { code, err } = await serveInVain({ NEWLEAF_LISTEN_AGENTS: address });
    other.close();
    assert.equal(code, 1);
    assert.equal(
      err,
      `newleaf: The agents listener cannot have ${address}: another program has it; change listen.agents (conflict)\n`,
    );
  });

  test("a data directory that is served already is refused, exit code 1, and run.json stays the first one's", async () => {
    const { child } = await serve();
    const { code, err } = await serveInVain({});
    assert.equal(code, 1);
    assert.match(err, /^newleaf: Another process has the database .* stop it first .*\(conflict\)\n$/);
    assert.equal((JSON.parse(readFileSync(join(dataDir, "run.json"), "utf8")) as Run).pid, child.pid);
    child.kill("SIGTERM");
    await once(child, "exit");
  });
});

/** A start that fails: its exit code and what it said. */
async function serveInVain(env: Readonly<Record<string, string>>): Promise<{ code: number | null; err: string }> {
  const child = spawn(launcher, ["serve", "--data", dataDir], {
    env: { ...process.env, ...anyPorts, ...env, NEWLEAF_NODE: process.execPath },
    stdio: ["ignore", "ignore", "pipe"],
  });
  started.push(child);
  let err = "";
  child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
  const [code] = (await once(child, "close")) as [number | null];
  return { code, err };
}
