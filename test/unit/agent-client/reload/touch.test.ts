import assert from "node:assert/strict";
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { describe as inWords, reload, validate } from "../../../../agent-client/reload/drivers.ts";
import { temporaryDirectory } from "../../../support/temporary-directory.ts";
import { needsRoot } from "../../../support/programs.ts";

describe("reload by touch and watch", () => {
  const directory = temporaryDirectory("touch");
  const touch = (file: string) => ({ kind: "touch", file }) as const;

  it("replaces the file by itself with a new inode and time, mode and owner kept", async () => {
    const file = join(directory, "dynamic.yml");
    writeFileSync(file, "tls: {}\n");
    chmodSync(file, 0o664);
    utimesSync(file, 1, 1);
    const before = statSync(file);
    assert.deepEqual(await validate(touch(file)), []);
    assert.deepEqual(await reload(touch(file)), { ok: true, detail: `rewrote ${file}` });
    const now = statSync(file);
    assert.notEqual(now.ino, before.ino);
    assert.ok(now.mtimeMs > Date.now() - 60_000);
    assert.deepEqual([now.mode, now.uid, now.gid], [before.mode, before.uid, before.gid]);
    assert.equal(readFileSync(file, "utf8"), "tls: {}\n");
  });

  it("follows a link and leaves it a link", async () => {
    const [file, link] = [join(directory, "real.yml"), join(directory, "link.yml")];
    writeFileSync(file, "x");
    symlinkSync(file, link);
    const before = statSync(file).ino;
    assert.equal((await reload(touch(link))).ok, true);
    assert.ok(lstatSync(link).isSymbolicLink());
    assert.notEqual(statSync(file).ino, before);
  });

  it(
    "leaves alone what is not the directory's owner's, where that user's link leads",
    {
      skip: needsRoot("to be led astray by another user"),
    },
    async () => {
      const [home, others] = [join(directory, "home"), join(directory, "others.yml")];
      mkdirSync(home);
      writeFileSync(others, "x");
      symlinkSync(others, join(home, "dynamic.yml"));
      chownSync(home, 65_534, 65_534);
      const { ino } = statSync(others);
      const { ok, detail } = await reload(touch(join(home, "dynamic.yml")));
      assert.deepEqual([ok, statSync(others).ino], [false, ino]);
      assert.match(detail, /can be led anywhere by uid 65534/);
    },
  );

  it("refuses what is missing, no file, or far too large", async () => {
    const large = join(directory, "large");
    writeFileSync(large, Buffer.alloc(9 * 1024 * 1024));
    mkdirSync(join(directory, "folder"));
    for (const [file, says] of [
      [join(directory, "none"), /is not there/],
      [join(directory, "folder"), /not a regular file/],
      [large, /larger than 8 MiB/],
    ] as const) {
      const result = await reload(touch(file));
      assert.equal(result.ok, false);
      assert.match(result.detail, says);
      assert.match(String(await validate(touch(file))), says);
    }
    assert.match(String(await validate(touch("dynamic.yml"))), /relative path/);
  });

  it("watch has nothing to do", async () => {
    assert.deepEqual(await validate({ kind: "watch" }), []);
    assert.equal((await reload({ kind: "watch" })).ok, true);
    assert.match(inWords({ kind: "watch" }), /watches its files/);
  });
});
