/** What users install: built, packed, installed into an empty folder, and both programs run from there with only Node on PATH. */
import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, readFile, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { findProgram } from "../support/programs.ts";

const run = promisify(execFile);
const root = join(import.meta.dirname, "..", "..");

let dir = "";
/** A PATH with nothing but what a launcher needs: sh, two coreutils and this Node. */
let path = "";
let packages = "";
let app = "";

before(async () => {
  dir = await mkdtemp(join(tmpdir(), "newleaf-test-packages-"));
  path = join(dir, "bin");
  packages = join(dir, "packages");
  app = join(dir, "app");
  await mkdir(path);
  await symlink(process.execPath, join(path, "node"));
  for (const name of ["sh", "dirname", "readlink"]) {
    const program = findProgram(name);
    assert.ok(program !== null, name);
    await symlink(await realpath(program), join(path, name));
  }
  await run(process.execPath, [join(root, "build.ts"), packages]);
});
after(() => rm(dir, { recursive: true, force: true }));

describe("each package", () => {
  for (const name of ["shared", "server", "agent"]) {
    it(`@newleaf/${name} is plain JavaScript with types, a license and nothing of development`, async () => {
      const files = await readdir(join(packages, name), { recursive: true });
      const own = files.filter((file) => !file.startsWith("node_modules"));
      assert.deepEqual(
        own.filter((file) => file.endsWith(".ts") && !file.endsWith(".d.ts")),
        [],
      );
      for (const script of own.filter((file) => file.endsWith(".js"))) {
        assert.ok(own.includes(script.replace(/js$/, "d.ts")), `${script} has no types`);
      }
      assert.ok(own.includes("LICENSE") && own.includes("README.md"));
      const manifest = JSON.parse(await readFile(join(packages, name, "package.json"), "utf8")) as object;
      assert.deepEqual(
        Object.keys(manifest).filter((key) => ["devDependencies", "scripts", "private", "workspaces"].includes(key)),
        [],
      );
    });
  }
});

/** Why nothing can be installed here, or false. Where CI is set there is no excuse. */
async function withoutRegistry(): Promise<string | false> {
  if (process.env["CI"] !== undefined) return false;
  try {
    await run("npm", ["ping"], { timeout: 10_000 });
    return false;
  } catch {
    return "needs the npm registry: run it where `npm ping` answers";
  }
}

describe("installed", { skip: await withoutRegistry() }, () => {
  const children = new Set<ChildProcess>();

  before(async () => {
    const names = (await readdir(packages)).filter((name) => /^newleaf-(server|agent)-.*\.tgz$/.test(name));
    assert.equal(names.length, 2);
    await mkdir(app);
    const tarballs = names.map((name) => join(packages, name));
    await run("npm", ["install", "--prefix", app, "--ignore-scripts", ...tarballs], { cwd: app });
  });
  after(() => {
    for (const child of children) child.kill("SIGKILL");
  });

  const program = (name: string): string => join(app, "node_modules", ".bin", name);
  const env = (): Record<string, string> => ({
    PATH: path,
    HOME: dir,
    ...Object.fromEntries(
      ["AGENTS", "ENROLLMENT", "ADMIN", "PUBLIC", "OPS"].map((name) => [`NEWLEAF_LISTEN_${name}`, "127.0.0.1:0"]),
    ),
  });
  const newleaf = (...args: string[]) => run(program("newleaf"), args, { env: env(), cwd: dir });

  it("both programs tell their version, of their own package", async () => {
    const { version } = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as { version: string };
    assert.equal((await newleaf("--version")).stdout, `${version}\n`);
    const { stdout } = await run(program("newleaf-agent"), ["--version"], { env: env() });
    assert.equal(stdout, `${version}\n`);
  });

  it("the agent brings two packages and no binary", async () => {
    const manifest = JSON.parse(
      await readFile(join(app, "node_modules", "@newleaf", "agent", "package.json"), "utf8"),
    ) as { dependencies: Record<string, string> };
    assert.deepEqual(Object.keys(manifest.dependencies).toSorted(), ["@newleaf/shared", "commander", "yaml"]);
  });

  it("init, serve, an identity, a token, enroll, check and renew; SIGTERM ends the service cleanly", async () => {
    const data = join(dir, "data");
    await writeFile(join(dir, "passphrase"), "correct horse battery staple\n", { mode: 0o600 });
    await newleaf("init", "--data", data, "--host", "localhost", "--root-passphrase-file", join(dir, "passphrase"));

    const service = spawn(program("newleaf"), ["serve", "--data", data], {
      env: env(),
      stdio: ["ignore", "pipe", "inherit"],
    });
    children.add(service);
    service.stdout.resume();
    const ended = once(service, "exit");
    const { pid, listeners } = await runFile(data);
    assert.equal(pid, service.pid, "the launcher does not exec: signals would miss the service");

    await newleaf("identity", "add", "web-1", "--data", data, "--profile", "agent", "--dns", "web-1.internal");
    const { stdout } = await newleaf("token", "create", "web-1", "--data", data, "--json");
    const config = join(dir, "agent.yml");
    await writeFile(config, agentConfig(data, listeners));
    const agent = (command: string) =>
      run(program("newleaf-agent"), [command, "--config", config], {
        env: { ...env(), NEWLEAF_TOKEN: (JSON.parse(stdout) as { token: string }).token },
      });
    await agent("check");
    await agent("enroll");
    await agent("renew");
    const leaf = await readFile(join(dir, "tls", "current", "cert.pem"), "utf8");
    assert.match(leaf, /^-----BEGIN CERTIFICATE-----\n/);

    service.kill("SIGTERM");
    assert.deepEqual(await ended, [0, null]);
    children.delete(service);
    await assert.rejects(readFile(join(data, "run.json")), { code: "ENOENT" });
  });

  it("their types hold for whoever imports them", async () => {
    await symlink(join(packages, "shared"), join(app, "node_modules", "@newleaf", "shared"));
    await writeFile(
      join(app, "consumer.ts"),
      `import { AppError } from "@newleaf/shared/problems";
       import type { RunningServer } from "@newleaf/server/app";
       import { loadConfig } from "@newleaf/agent/config/config";
       export const server = (it: RunningServer): number | undefined => it.listeners.agents?.port;
       export const state: string = loadConfig("agent.yml").state;
       // @ts-expect-error -- the code is of the table, not any text
       export const error = new AppError("no-such-code");
       // @ts-expect-error -- a string
       export const wrong: number = loadConfig("agent.yml").state;\n`,
    );
    await writeFile(
      join(app, "tsconfig.json"),
      JSON.stringify({
        compilerOptions: {
          module: "nodenext",
          target: "esnext",
          lib: ["esnext"],
          strict: true,
          noEmit: true,
          skipLibCheck: true,
          types: ["node"],
          typeRoots: [join(root, "node_modules", "@types")],
        },
        files: ["consumer.ts"],
      }),
    );
    await writeFile(join(app, "package.json"), JSON.stringify({ type: "module" }));
    const compiler = join(root, "node_modules", "typescript", "bin", "tsc");
    await run(process.execPath, [compiler, "-p", app]).catch((error: { stdout?: string }) => {
      throw new Error(error.stdout ?? "tsc failed");
    });
  });
});

interface RunFile {
  readonly pid: number;
  readonly listeners: Readonly<Record<string, string>>;
}

async function runFile(data: string): Promise<RunFile> {
  for (let tries = 0; tries < 200; tries += 1) {
    try {
      return JSON.parse(await readFile(join(data, "run.json"), "utf8")) as RunFile;
    } catch {
      await sleep(50);
    }
  }
  throw new Error("the installed service did not start within ten seconds");
}

function agentConfig(data: string, listeners: Readonly<Record<string, string>>): string {
  const url = (name: string) => `https://${(listeners[name] ?? "").replace("127.0.0.1", "localhost")}`;
  return `server: ${url("agents")}
enrollment: ${url("enrollment")}
roots: ${join(data, "roots.pem")}
state: ${join(dir, "state")}
certificates:
  - name: web
    key: ecdsa-p256
    directory: ${join(dir, "tls")}
    files: [key.pem, cert.pem, chain.pem]
    reload: watch
    probe: none
`;
}
