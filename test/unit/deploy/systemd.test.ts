/** The units of deploy/systemd, as systemd itself judges them. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it, test } from "node:test";
import { promisify } from "node:util";
import { runInNewContext } from "node:vm";
import { findProgram, needs } from "../../support/programs.ts";

const run = promisify(execFile);
const folder = join(import.meta.dirname, "..", "..", "..", "deploy", "systemd");
const read = (name: string): Promise<string> => readFile(join(folder, name), "utf8");
const agentUnits = ["newleaf-agent.service", "newleaf-agent-enroll.service", "newleaf-agent-renew.service"];
/** systemd's exposure level, ten times: nginx.service of Debian has 96. A setting that is taken away raises it by 1 to 3. */
const worstExposure: Readonly<Record<string, number>> = {
  "newleaf.service": 17,
  ...Object.fromEntries(agentUnits.map((name) => [name, 25])),
};

describe("systemd", { skip: needs("systemd-analyze") }, () => {
  const analyze = (...args: string[]) => run(findProgram("systemd-analyze") ?? "", args, { timeout: 30_000 });

  it("accepts every unit without a word", async () => {
    const dir = await mkdtemp(join(tmpdir(), "newleaf-test-units-"));
    try {
      const units = (await readdir(folder)).filter((name) => /\.(?:service|timer)$/.test(name));
      assert.equal(units.length, 5);
      for (const name of units) {
        // Where the program is installed is for the host to say; systemd wants it to be there.
        const unit = (await read(name)).replaceAll(/\/usr\/bin\/newleaf(?:-agent)?/g, process.execPath);
        await writeFile(join(dir, name), unit);
      }
      const said = await analyze("verify", "--man=no", ...units.map((name) => join(dir, name)));
      assert.deepEqual(said, { stdout: "", stderr: "" });
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  });

  for (const [name, threshold] of Object.entries(worstExposure)) {
    it(`finds ${name} exposed by ${threshold / 10} of 10 at most`, async () => {
      await analyze("security", "--offline=true", "--no-pager", `--threshold=${threshold}`, join(folder, name));
    });
  }
});

test("daemon, enrollment and timer run in one and the same sandbox, which lets them reach systemd and the service", async () => {
  const sandboxes = await Promise.all(
    agentUnits.map(async (name) => {
      const [, sandbox = ""] = /^# --- sandbox.*\n([^]*)^# --- end of the sandbox$/m.exec(await read(name)) ?? [];
      return sandbox.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
    }),
  );
  const [daemon = [], ...others] = sandboxes;
  for (const other of others) assert.deepEqual(other, daemon);
  assert.ok(daemon.includes("RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX"));
  for (const setting of ["PrivateNetwork", "PrivateUsers", "MemoryDenyWriteExecute", "ProtectProc"])
    assert.ok(!daemon.some((line) => line.startsWith(`${setting}=`)), `${setting} would break the agent`);
});

test("the enrollment token reaches the agent as a credential, in no argument and no variable", async () => {
  const unit = await read("newleaf-agent-enroll.service");
  assert.match(unit, /^LoadCredential=token:\/etc\/newleaf\/token$/m);
  assert.match(unit, /^ExecStart=.* --token-file %d\/token$/m);
  assert.doesNotMatch(unit, /^(?:Environment|PassEnvironment|EnvironmentFile)=/m);
});

test("key directories in memory outlive a restart of the agent", async () => {
  for (const name of agentUnits) {
    const unit = await read(name);
    assert.match(unit, /^RuntimeDirectory=newleaf$/m);
    assert.match(unit, /^RuntimeDirectoryPreserve=yes$/m);
  }
});

test("the polkit rule lets newleaf-agent reload nginx, and nobody do anything else", async () => {
  type Decide = (action: { id: string; lookup(name: string): string }, subject: { user: string }) => string | null;
  const rules: Decide[] = [];
  const polkit = { Result: { YES: "yes", NOT_HANDLED: null }, addRule: (rule: Decide) => rules.push(rule) };
  runInNewContext(await read("49-newleaf-agent.rules"), { polkit });
  const [decide] = rules;
  assert.ok(decide !== undefined && rules.length === 1);
  const ask = (user: string, verb: string, unit: string, id = "org.freedesktop.systemd1.manage-units") =>
    decide({ id, lookup: (name) => ({ verb, unit })[name] ?? "" }, { user });
  assert.equal(ask("newleaf-agent", "reload", "nginx.service"), "yes");
  assert.equal(ask("www-data", "reload", "nginx.service"), null);
  assert.equal(ask("newleaf-agent", "restart", "nginx.service"), null);
  assert.equal(ask("newleaf-agent", "reload", "ssh.service"), null);
  assert.equal(ask("newleaf-agent", "reload", "nginx.service", "org.freedesktop.systemd1.manage-unit-files"), null);
});
