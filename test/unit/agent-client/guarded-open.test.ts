/** What a less privileged user can make a root agent open: what is their own, and nothing else. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { inDirectoryOf, LedAstrayError, readGuarded } from "../../../agent-client/guarded-open.ts";
import { temporaryDirectory } from "../../support/temporary-directory.ts";

const isRoot = process.geteuid?.() === 0 && process.platform === "linux";
const someone = 65_534;

describe("opening what agent.yml names", { skip: isRoot ? false : "needs root" }, () => {
  const directory = temporaryDirectory("guarded-open");
  let count = 0;
  /** A secret of root's beside a home of somebody's. */
  const setUp = () => {
    const root = join(directory, String((count += 1)));
    const home = join(root, "home");
    const secret = join(root, "secret");
    mkdirSync(home, { recursive: true });
    chownSync(home, someone, someone);
    writeFileSync(secret, "root's own\n", { mode: 0o640 });
    const write = (name: string, uid = someone): string => {
      writeFileSync(join(home, name), "theirs\n");
      chownSync(join(home, name), uid, uid);
      return join(home, name);
    };
    return { root, home, secret, write };
  };
  const text = async (path: string): Promise<string> => (await readGuarded(path, 100)).data.toString();

  it("takes files of root's, also over root's links, and a user's own where the user decides", async () => {
    const { root, secret, write } = setUp();
    symlinkSync("secret", join(root, "link"));
    assert.equal(await text(join(root, "link")), "root's own\n");
    assert.equal(await text(secret), "root's own\n");
    assert.equal(await text(write("own")), "theirs\n");
    assert.equal(await text(write("by-root", 0)), "theirs\n", "put there by root: nobody else could have");
    symlinkSync("home/own", join(root, "to-theirs"));
    assert.equal(await text(join(root, "to-theirs")), "theirs\n");
  });

  it("refuses a user's link, second name, or directory that leads to what is not the user's", async () => {
    const { root, home, secret, write } = setUp();
    symlinkSync(secret, join(home, "link"));
    linkSync(secret, join(home, "name"));
    symlinkSync(root, join(home, "up"));
    const own = write("own");
    renameSync(own, join(home, "kept"));
    symlinkSync("../secret", own);
    for (const path of [join(home, "link"), join(home, "name"), join(home, "up", "secret"), own])
      await assert.rejects(text(path), LedAstrayError, path);
    const link = join(root, "theirs");
    symlinkSync(secret, link);
    execFileSync("chown", ["-h", String(someone), link]);
    await assert.rejects(text(link), LedAstrayError, "in a sticky directory, for example");
    await assert.rejects(text(join(home, "none")), { code: "ENOENT" });
  });

  it("takes from a directory that several may write to what lies in it, and nothing that it leads to", async () => {
    const { root, secret } = setUp();
    const shared = join(root, "volume");
    mkdirSync(join(shared, "..data"), { recursive: true });
    chmodSync(shared, 0o777);
    writeFileSync(join(shared, "..data", "tls.tmpl"), "a template\n");
    // How Kubernetes mounts a ConfigMap.
    symlinkSync("..data/tls.tmpl", join(shared, "tls.tmpl"));
    symlinkSync(secret, join(shared, "secret"));
    assert.equal(await text(join(shared, "tls.tmpl")), "a template\n");
    await assert.rejects(text(join(shared, "secret")), LedAstrayError);
  });

  it("reads no pipe, no device and nothing larger than it should be", async () => {
    const { home, write } = setUp();
    execFileSync("mkfifo", [join(home, "pipe")]);
    await assert.rejects(text(join(home, "pipe")), /not a regular file/);
    await assert.rejects(text("/dev/zero"), /not a regular file/);
    const large = write("large");
    writeFileSync(large, "x".repeat(101));
    await assert.rejects(text(large), /larger than 100 bytes/);
    writeFileSync(large, "x".repeat(100));
    assert.equal((await text(large)).length, 100);
  });

  it("works in a directory that was looked at, and in no other that takes its place", async () => {
    const { root, home, secret } = setUp();
    const tls = join(home, "tls");
    mkdirSync(tls);
    await inDirectoryOf(join(tls, "secret"), async (within) => {
      renameSync(tls, join(home, "away"));
      symlinkSync(root, tls);
      writeFileSync(within, "the agent's\n");
    });
    assert.equal(readFileSync(secret, "utf8"), "root's own\n");
    assert.equal(readFileSync(join(home, "away", "secret"), "utf8"), "the agent's\n");
    await assert.rejects(
      inDirectoryOf(join(tls, "secret"), () => Promise.reject(new Error("reached"))),
      LedAstrayError,
    );
    assert.equal(statSync(secret).mode & 0o777, 0o640);
  });
});
