import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import {
  createFileExclusively,
  makeDirectory,
  replaceSymlink,
  syncDirectory,
  writeFileDurably,
} from "@newleaf/shared/durable-file";

describe("durable files", () => {
  let directory = "";
  let umask = 0;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "newleaf-durable-"));
    umask = process.umask(0o077);
  });
  after(async () => {
    process.umask(umask);
    await rm(directory, { recursive: true });
  });
  const modeOf = async (path: string) => (await stat(path)).mode & 0o7777;

  it("writeFileDurably replaces content and mode and leaves no temporary file", async () => {
    const home = join(directory, "replace");
    await mkdir(home);
    const path = join(home, "crl");
    await writeFile(path, "old", { mode: 0o600 });
    await writeFileDurably(path, "new", { mode: 0o644 });
    assert.equal(await readFile(path, "utf8"), "new");
    assert.equal(await modeOf(path), 0o644, "the umask must not cut the mode");
    assert.deepEqual(await readdir(home), ["crl"]);
  });

  it("writeFileDurably keeps the old file and cleans up when it cannot finish", async () => {
    const home = join(directory, "broken");
    await mkdir(join(home, "taken", "inside"), { recursive: true });
    await assert.rejects(writeFileDurably(join(home, "taken"), "x", { mode: 0o600 }), { code: "EISDIR" });
    assert.deepEqual(await readdir(home), ["taken"]);
  });

  it("writeFileDurably replaces a symbolic link instead of writing through it", async () => {
    const home = join(directory, "through");
    await mkdir(home);
    await writeFile(join(home, "victim"), "untouched");
    await symlink("victim", join(home, "link"));
    await writeFileDurably(join(home, "link"), "own", { mode: 0o600 });
    assert.equal(await readFile(join(home, "victim"), "utf8"), "untouched");
    assert.equal(await readFile(join(home, "link"), "utf8"), "own");
  });

  it("createFileExclusively refuses a name that is taken, a dangling link included", async () => {
    const path = join(directory, "exclusive");
    await createFileExclusively(path, Buffer.from([0, 255]), { mode: 0o640 });
    assert.deepEqual([...(await readFile(path))], [0, 255]);
    assert.equal(await modeOf(path), 0o640);
    await assert.rejects(createFileExclusively(path, "x", { mode: 0o600 }), { code: "EEXIST" });
    await symlink("nowhere", join(directory, "dangling"));
    await assert.rejects(createFileExclusively(join(directory, "dangling"), "x", { mode: 0o600 }), { code: "EEXIST" });
    await assert.rejects(stat(join(directory, "nowhere")), { code: "ENOENT" });
  });

  const [group] = process.getgroups?.() ?? [];
  const noGroup = group === undefined ? "needs a process that is in a group" : false;
  it("createFileExclusively gives the file to the group asked for", { skip: noGroup }, async () => {
    assert.ok(group !== undefined);
    const path = join(directory, "grouped");
    await createFileExclusively(path, "x", { mode: 0o640, gid: group });
    assert.equal((await stat(path)).gid, group);
  });

  it("makeDirectory gives the exact mode to the ones it makes and leaves the others", async () => {
    const top = join(directory, "top");
    await mkdir(top, { mode: 0o700 });
    const made = await makeDirectory(join(top, "a", "b"), 0o750);
    assert.deepEqual(made, [join(top, "a"), join(top, "a", "b")]);
    assert.equal(await modeOf(top), 0o700);
    assert.equal(await modeOf(join(top, "a")), 0o750);
    assert.equal(await modeOf(join(top, "a", "b")), 0o750);
    assert.deepEqual(await makeDirectory(join(top, "a"), 0o700), []);
    assert.equal(await modeOf(join(top, "a")), 0o750);
    await writeFile(join(top, "file"), "");
    await assert.rejects(makeDirectory(join(top, "file"), 0o700), { code: "ENOTDIR" });
    await assert.rejects(makeDirectory(join(top, "file", "below"), 0o700), { code: "ENOTDIR" });
  });

  it("replaceSymlink switches the target and replaces nothing but the link", async () => {
    const home = join(directory, "switch");
    await mkdir(join(home, "directory"), { recursive: true });
    const link = join(home, "current");
    await replaceSymlink("versions/1", link);
    await replaceSymlink("versions/2", link);
    assert.equal(await readlink(link), "versions/2");
    await assert.rejects(replaceSymlink("versions/3", join(home, "directory")), { code: "EISDIR" });
    assert.deepEqual((await readdir(home)).toSorted(), ["current", "directory"]);
  });

  it("syncDirectory refuses what is not a directory", async () => {
    await writeFile(join(directory, "plain"), "");
    await assert.rejects(syncDirectory(join(directory, "plain")), { code: "ENOTDIR" });
  });
});
