/**
 * The agent as one file, on a host without Node: what it asks of the system, and every command against a real service.
 * It is built here, unless NEWLEAF_AGENT_EXECUTABLE names one that is to be judged.
 */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { createSecureContext } from "node:tls";
import { promisify } from "node:util";
import { type TestHost, testHost, until } from "../support/agent.ts";
import { findProgram, needs } from "../support/programs.ts";
import { startService, type TestService } from "../support/service.ts";
import { startTlsServer, type TlsServer } from "../support/tls-server.ts";

const execute = promisify(execFile);
const root = join(import.meta.dirname, "..", "..");
const files = ["key.pem", "fullchain.pem", "ca.pem", "crl.pem"];
const given = process.env["NEWLEAF_AGENT_EXECUTABLE"];
const runtime =
  process.env["BUILD_AGENT_NODE"] ?? (process.versions.node.startsWith("24.") ? undefined : process.execPath);

/** Why none can be built here, or false. Where CI is set there is no excuse. */
async function cannotBuild(): Promise<string | false> {
  const isFetched = existsSync(join(root, ".cache"));
  if ([given, runtime, process.env["CI"]].some((one) => one !== undefined) || isFetched) return false;
  try {
    await execute("npm", ["ping"], { timeout: 10_000 });
    return false;
  } catch {
    return "needs the npm registry once, for Node 26: run it where `npm ping` answers, or set BUILD_AGENT_NODE";
  }
}

describe("the single executable", { skip: await cannotBuild() }, () => {
  let dir = "";
  let program = "";
  /** No Node on PATH (nothing at all), nothing at home, and options that would stop any Node that listened to them. */
  const env = (): Record<string, string> => ({
    PATH: join(dir, "nothing"),
    HOME: join(dir, "nothing"),
    NODE_OPTIONS: "--require=/nonexistent/module.cjs",
  });
  const agent = (...args: string[]) => execute(program, args, { env: env(), cwd: dir, timeout: 60_000 });

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), "newleaf-test-executable-"));
    await mkdir(join(dir, "nothing"));
    program = given ?? join(dir, "newleaf-agent");
    if (given !== undefined) return;
    const seaNode = runtime === undefined ? {} : { BUILD_AGENT_NODE: runtime };
    await execute(process.execPath, [join(root, "build-agent.ts"), program], { env: { ...process.env, ...seaNode } });
  });
  after(() => rm(dir, { recursive: true, force: true }));

  it(
    "needs glibc 2.28 or older, libstdc++6, libatomic1 and nothing else of the host",
    { skip: needs("objdump") },
    async () => {
      const objdump = findProgram("objdump") ?? "";
      const { stdout: headers } = await execute(objdump, ["-p", program]);
      const libraries = [...headers.matchAll(/NEEDED\s+(\S+)/g)].map(([, name = ""]) => name.replace(/\.so.*/, ""));
      const expected = ["libatomic", "libc", "libdl", "libgcc_s", "libm", "libpthread", "libstdc++"];
      assert.deepEqual(libraries.filter((name) => !name.startsWith("ld-linux")).toSorted(), expected);
      const versions = [...headers.matchAll(/ GLIBC_(\d+)\.(\d+)/g)].map(
        ([, major, minor]) => Number(major) * 1000 + Number(minor),
      );
      assert.ok(versions.length > 0);
      assert.ok(Math.max(...versions) <= 2028, `asks for glibc ${Math.max(...versions)}`);
    },
  );

  it("tells its version and its commands, and no NODE_OPTIONS reach it", async () => {
    const { version } = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as { version: string };
    assert.deepEqual(await agent("--version"), { stdout: `${version}\n`, stderr: "" });
    assert.match((await agent("--help")).stdout, /^Usage: newleaf-agent /);
    await assert.rejects(agent("--inspect=0", "status"), { code: 2 });
    const { stdout, stderr } = await execute("/bin/sh", ["-c", `"$0" --help | :; echo done`, program]);
    assert.deepEqual([stdout, stderr], ["done\n", ""], "a reader that has seen enough is no fault");
    await assert.rejects(agent("status", "--config", join(dir, "nothing", "agent.yml")), { code: 1, stdout: "" });
  });

  describe("with a service", () => {
    let service: TestService | undefined;
    let host: TestHost;
    let proxy: TlsServer | undefined;

    before(async () => {
      service = await startService();
      host = testHost(service, join(dir, "host"));
      host.configure({ files, reload: "watch", probe: "none" });
      const names = { dns: ["gateway.claw.internal"], ip: [], uri: [], email: [] };
      await service.admin("POST", "/v1/identities", { id: "gateway-1", profile: "gateway", names });
      await writeFile(join(dir, "token"), await service.token("gateway-1"));
      const { stdout } = await agent("enroll", "--config", host.configFile, "--token-file", join(dir, "token"));
      assert.match(stdout, /enrolled as gateway-1/);
      proxy = await startTlsServer(() =>
        createSecureContext({ key: host.file("key.pem"), cert: host.file("fullchain.pem") }),
      );
      const probe = { connect: proxy.connect, serverName: "gateway.claw.internal" };
      host.configure({ files, reload: "watch", probe }, { metrics: "127.0.0.1:0" });
    });
    after(async () => {
      await proxy?.stop();
      await service?.[Symbol.asyncDispose]();
    });

    it("check finds nothing to complain of, and renew proves what enroll installed", async () => {
      const { stdout } = await agent("check", "--config", host.configFile);
      assert.doesNotMatch(stdout, /^fail/m);
      const before = host.installed();
      assert.match((await agent("renew", "--config", host.configFile)).stdout, /nothing was due; served; until 20/);
      assert.equal(host.installed(), before);
    });

    it("renew --force brings a new leaf, which is served", async () => {
      const before = host.installed();
      assert.match(
        (await agent("renew", "--config", host.configFile, "--force")).stdout,
        /renewed, serial [0-9a-f]{32}; served/,
      );
      assert.notEqual(host.installed(), before);
    });

    it("run keeps the certificate until SIGTERM, and then ends with 0", async () => {
      const child = spawn(program, ["run", "--config", host.configFile], {
        env: env(),
        stdio: ["ignore", "pipe", "pipe"],
      });
      using _ = { [Symbol.dispose]: () => void child.kill("SIGKILL") };
      const ended = once(child, "exit");
      let log = "";
      child.stderr.setEncoding("utf8").on("data", (text: string) => (log += text));
      await until("it is ready", () => / info ready .*pid=\d+/.test(log));
      assert.match(log, new RegExp(`pid=${child.pid}\\b`), "signals would miss it");
      const metrics = /url=(http:\S+)/.exec(log)?.[1] ?? "";
      assert.match(await (await fetch(metrics)).text(), /newleaf_agent_served_matches\{certificate="gateway"\} 1/);
      const { stdout } = await agent("status", "--config", host.configFile);
      assert.match(stdout, /^newleaf-agent run \(pid \d+\)[^]*gateway: OK/);
      child.kill("SIGTERM");
      assert.deepEqual(await ended, [0, null]);
      assert.match(log, / info stopped/);
    });
  });
});
