import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import type { FileName, VersionFacts } from "../../../../agent-client/install/material.ts";
import { stage } from "../../../../agent-client/install/stage.ts";
import { prune } from "../../../../agent-client/install/switch.ts";
import { InstallError, type Target } from "../../../../agent-client/install/target.ts";
import { temporaryDirectory } from "../../../support/temporary-directory.ts";

const isRoot = process.geteuid?.() === 0;
const asRoot = isRoot ? false : "needs root, to give files away and to mount a small disk";
const facts: VersionFacts = {
  fingerprint: `sha256:3f9c2a1b${"0".repeat(56)}`,
  notAfter: Date.UTC(2026, 11, 20),
  bundleVersion: 4,
  crlNumbers: { abc: 12 },
  stagedAt: Date.UTC(2026, 10, 20, 10, 30, 0, 123),
};
const name = "20261120T103000Z-3f9c2a1b";

function targetIn(directory: string, changes: Partial<Target> = {}): Target {
  const files: FileName[] = ["key.pem", "cert.pem"];
  return { directory, files, owner: null, group: null, mode: 0o600, links: {}, ...changes };
}

const content = (text = "one"): Map<FileName, Buffer> =>
  new Map([
    ["key.pem", Buffer.from(`key ${text}`)],
    ["cert.pem", Buffer.from(`cert ${text}`)],
  ]);
const modeOf = (path: string): string => (statSync(path).mode & 0o7777).toString(8);

describe("stage", () => {
  const directory = temporaryDirectory("stage");

  it("makes a complete version, 0600 in 0700 whatever the umask, and touches nothing else", async () => {
    for (const umask of [0o000, 0o077, 0o177]) {
      const target = targetIn(join(directory, `umask-${umask.toString(8)}`));
      const before = process.umask(umask);
      try {
        assert.deepEqual(await stage(target, content(), facts), { version: name });
      } finally {
        process.umask(before);
      }
      assert.deepEqual(readdirSync(target.directory), ["versions"]);
      const version = join(target.directory, "versions", name);
      assert.deepEqual(readdirSync(version).toSorted(), ["cert.pem", "key.pem", "meta.json"]);
      assert.equal(readFileSync(join(version, "key.pem"), "utf8"), "key one");
      for (const file of ["key.pem", "cert.pem", "meta.json"]) assert.equal(modeOf(join(version, file)), "600", file);
      for (const path of [target.directory, join(target.directory, "versions"), version])
        assert.equal(modeOf(path), "700");
    }
  });

  it("gives the key no more than 0640, whatever the mode", async () => {
    const target = targetIn(join(directory, "open"), { mode: 0o644 });
    await stage(target, content(), facts);
    const version = join(target.directory, "versions", name);
    assert.equal(modeOf(join(version, "key.pem")), "640");
    assert.equal(modeOf(join(version, "cert.pem")), "644");
    assert.equal(modeOf(version), "711");
  });

  it("writes nothing derived from the key into meta.json", async () => {
    const target = targetIn(join(directory, "meta"));
    await stage(target, content(), facts);
    const meta: unknown = JSON.parse(readFileSync(join(target.directory, "versions", name, "meta.json"), "utf8"));
    assert.deepEqual(meta, {
      ...facts,
      files: {
        "key.pem": { size: 7, sha256: null },
        "cert.pem": { size: 8, sha256: createHash("sha256").update("cert one").digest("hex") },
      },
    });
  });

  it("answers the same set again with the same version, untouched", async () => {
    const target = targetIn(join(directory, "again"));
    await stage(target, content(), facts);
    const inode = statSync(join(target.directory, "versions", name, "key.pem")).ino;
    assert.deepEqual(await stage(target, content(), facts), { version: name });
    assert.equal(statSync(join(target.directory, "versions", name, "key.pem")).ino, inode);
    assert.deepEqual(readdirSync(join(target.directory, "versions")), [name]);
  });

  it("never writes over a version: another set of the same second, or a damaged one, gets another name", async () => {
    const target = targetIn(join(directory, "other"));
    await stage(target, content(), facts);
    assert.deepEqual(await stage(target, content("two"), facts), { version: `${name}-2` });
    rmSync(join(target.directory, "versions", `${name}-2`, "cert.pem"));
    assert.deepEqual(await stage(target, content("two"), facts), { version: `${name}-3` });
    assert.deepEqual(await stage(target, content("two"), facts), { version: `${name}-3` });
    assert.equal(readFileSync(join(target.directory, "versions", name, "key.pem"), "utf8"), "key one");
  });

  it("does not take a version for its own in which another hand put a key of the same size", async () => {
    const target = targetIn(join(directory, "other-key"));
    await stage(target, content(), facts);
    writeFileSync(join(target.directory, "versions", name, "key.pem"), "key two");
    assert.deepEqual(await stage(target, content(), facts), { version: `${name}-2` });
    assert.equal(readFileSync(join(target.directory, "versions", `${name}-2`, "key.pem"), "utf8"), "key one");
  });

  it("removes what a crash left half written, and writes the version whole", async () => {
    const target = targetIn(join(directory, "crash"));
    const partial = join(target.directory, "versions", `.${name}.partial`);
    mkdirSync(partial, { recursive: true });
    writeFileSync(join(partial, "key.pem"), "half a k");
    assert.deepEqual(await stage(target, content(), facts), { version: name });
    assert.deepEqual(readdirSync(join(target.directory, "versions")), [name]);
    assert.equal(readFileSync(join(target.directory, "versions", name, "key.pem"), "utf8"), "key one");
  });

  it("refuses to stage less than the target asks for", async () => {
    const target = targetIn(join(directory, "less"), { files: ["key.pem", "crl.pem"] });
    await assert.rejects(stage(target, content(), facts), /no content for crl\.pem/);
    assert.equal(existsSync(target.directory), false);
  });

  it("refuses an owner that nobody knows", async () => {
    const target = targetIn(join(directory, "nobody-knows"), { owner: "no-such-user-here" });
    await assert.rejects(stage(target, content(), facts), /no-such-user-here.*or its number/);
  });

  it("gives the files to their owner from the first byte on", { skip: asRoot }, async () => {
    chmodSync(directory, 0o711);
    const target = targetIn(join(directory, "given"), { owner: 65_534, group: 65_533 });
    await stage(target, content(), facts);
    const key = statSync(join(target.directory, "versions", name, "key.pem"));
    assert.deepEqual([key.uid, key.gid, key.mode & 0o777], [65_534, 65_533, 0o600]);
    const record = statSync(join(target.directory, "versions", name, "meta.json"));
    assert.equal(record.uid, process.geteuid?.(), "what the agent believes of a version is the agent's");
    const path = join(target.directory, "versions", name, "key.pem");
    const run = (uid: number): unknown => execFileSync("/bin/cat", [path], { uid, gid: uid, stdio: "pipe", cwd: "/" });
    assert.equal(String(run(65_534)), "key one");
    assert.throws(() => run(65_532));
  });

  it("makes nothing in a tree that another user could replace by a link", { skip: asRoot }, async () => {
    const [home, victim] = [join(directory, "home"), join(directory, "victim")];
    const [own, inside] = [targetIn(join(home, "tls")), targetIn(join(directory, "theirs"))];
    for (const path of [home, victim]) mkdirSync(path);
    await stage(own, content(), facts);
    await stage(inside, content(), facts);
    chownSync(home, 65_534, 65_534);
    chownSync(inside.directory, 65_534, 65_534);
    rmSync(join(inside.directory, "versions"), { recursive: true });
    symlinkSync(victim, join(inside.directory, "versions"));
    for (const target of [own, inside]) {
      await assert.rejects(stage(target, content("two"), facts), {
        message: /belongs to uid 65534, who could lead the agent.*run "chown root/,
      });
      await assert.rejects(prune(target), { message: /belongs to uid 65534/ });
    }
    assert.deepEqual(readdirSync(victim), []);
    chownSync(home, 0, 0);
    await stage(own, content("two"), facts);
  });

  it("says so when the owner could not pass the directory", { skip: asRoot }, async () => {
    const target = targetIn(join(directory, "closed"), { owner: 65_534 });
    mkdirSync(target.directory, { mode: 0o700 });
    await assert.rejects(stage(target, content(), facts), /uid 65534.*cannot pass .*closed.*chmod a\+x/);
  });

  it("leaves nothing behind on a full disk, says ENOSPC, and works once there is room", { skip: asRoot }, async (t) => {
    const small = join(directory, "small");
    mkdirSync(small);
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", small], { stdio: "pipe" });
    } catch {
      return t.skip("may not mount: in a container give CAP_SYS_ADMIN");
    }
    try {
      const target = targetIn(join(small, "tls"));
      const large = new Map(content()).set("cert.pem", Buffer.alloc(256 * 1024, 1));
      const isFull = (error: unknown): boolean =>
        error instanceof InstallError && error.code === "ENOSPC" && /disk is full/.test(error.message);
      await assert.rejects(stage(target, large, facts), isFull);
      assert.deepEqual(readdirSync(join(target.directory, "versions")), []);
      assert.deepEqual(await stage(target, content(), facts), { version: name });
    } finally {
      execFileSync("umount", [small]);
    }
  });

  it("says what to do when it may not give files away", { skip: asRoot }, () => {
    chmodSync(directory, 0o777);
    const module = join(import.meta.dirname, "../../../../agent-client/install/stage.ts");
    const target = targetIn(join(directory, "not-root"), { owner: 0 });
    const script = `
      const { stage } = await import(${JSON.stringify(module)});
      const files = new Map([["key.pem", Buffer.from("k")], ["cert.pem", Buffer.from("c")]]);
      process.setgid(65534); process.setgroups([]); process.setuid(65534);
      const error = await stage(${JSON.stringify(target)}, files, ${JSON.stringify(facts)}).catch((e) => e);
      console.log(error.code, error.message);`;
    const said = execFileSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
    assert.match(said, /^EPERM .*CAP_CHOWN/);
    assert.deepEqual(readdirSync(join(target.directory, "versions")), []);
  });
});
