import assert from "node:assert/strict";
import {
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { ensureLinks, inspectLinks, linkProblem } from "../../../../agent-client/install/links.ts";
import type { FileName } from "../../../../agent-client/install/material.ts";
import type { Target } from "../../../../agent-client/install/target.ts";
import { temporaryDirectory } from "../../../support/temporary-directory.ts";

describe("links", () => {
  const directory = temporaryDirectory("links");
  let count = 0;
  const setUp = (links: Record<string, FileName> = { "server.key": "key.pem" }): { target: Target; etc: string } => {
    count += 1;
    const etc = join(directory, `etc-${count}`);
    mkdirSync(etc);
    const files: FileName[] = ["key.pem", "fullchain.pem"];
    const absolute = Object.fromEntries(Object.entries(links).map(([path, file]) => [join(etc, path), file]));
    const home = join(directory, `tls-${count}`);
    return { etc, target: { directory: home, files, owner: null, group: null, mode: 0o600, links: absolute } };
  };

  it("makes each path a link into current, and is then content", async () => {
    const { target, etc } = setUp({ "server.key": "key.pem", "server.crt": "fullchain.pem" });
    const paths = [join(etc, "server.key"), join(etc, "server.crt")];
    assert.deepEqual(await ensureLinks(target, { adopt: false }), { made: paths, adopted: [] });
    assert.equal(readlinkSync(join(etc, "server.key")), join(target.directory, "current", "key.pem"));
    assert.deepEqual(await ensureLinks(target, { adopt: false }), { made: [], adopted: [] });
    assert.deepEqual(
      (await inspectLinks(target)).map(({ state }) => state),
      ["right", "right"],
    );
  });

  it("repairs a link of ours, relative or to another file", async () => {
    const { target, etc } = setUp();
    symlinkSync(join(target.directory, "current", "cert.pem"), join(etc, "server.key"));
    await ensureLinks(target, { adopt: false });
    assert.equal(readlinkSync(join(etc, "server.key")), join(target.directory, "current", "key.pem"));
  });

  it("refuses a file, a foreign link, a directory and a missing parent, and then makes none", async () => {
    const { target, etc } = setUp({ a: "key.pem", b: "key.pem", c: "key.pem", d: "key.pem", "no/e": "key.pem" });
    writeFileSync(join(etc, "b"), "precious");
    symlinkSync("/etc/hostname", join(etc, "c"));
    mkdirSync(join(etc, "d"));
    await assert.rejects(ensureLinks(target, { adopt: false }), (error: Error) => {
      assert.match(error.message, /b is a file that the agent did not make: run once with --adopt/);
      assert.match(error.message, /c is a link to somewhere else.*--adopt/);
      assert.match(error.message, /d is a directory/);
      assert.match(error.message, /no, where the link .*e should be, is not there/);
      return true;
    });
    assert.deepEqual(readdirSync(etc).toSorted(), ["b", "c", "d"]);
    const refused = (await inspectLinks(target)).map((report) => linkProblem(report, { adopt: true }) !== null);
    assert.deepEqual(refused, [false, false, false, true, true]);
  });

  it("adopts a file and a foreign link: moved aside, never lost, at every repetition", async () => {
    const { target, etc } = setUp({ file: "key.pem", link: "fullchain.pem" });
    writeFileSync(join(etc, "file"), "precious");
    symlinkSync("/etc/hostname", join(etc, "link"));
    const { adopted } = await ensureLinks(target, { adopt: true });
    assert.deepEqual(
      adopted.map(({ movedTo }) => movedTo),
      [join(etc, "file.before-newleaf"), join(etc, "link.before-newleaf")],
    );
    assert.equal(readFileSync(join(etc, "file.before-newleaf"), "utf8"), "precious");
    assert.equal(readlinkSync(join(etc, "link.before-newleaf")), "/etc/hostname");
    assert.deepEqual(await ensureLinks(target, { adopt: true }), { made: [], adopted: [] });
    assert.ok(lstatSync(join(etc, "file")).isSymbolicLink());
  });

  it("never overwrites what was moved aside before, and resumes after a crash in between", async () => {
    const { target, etc } = setUp();
    writeFileSync(join(etc, "server.key.before-newleaf"), "first");
    writeFileSync(join(etc, "server.key"), "second");
    // As a crash between the second name and the switch leaves it.
    linkSync(join(etc, "server.key"), join(etc, "server.key.before-newleaf-2"));
    const { adopted } = await ensureLinks(target, { adopt: true });
    assert.deepEqual(
      adopted.map(({ movedTo }) => movedTo),
      [join(etc, "server.key.before-newleaf-2")],
    );
    assert.equal(readFileSync(join(etc, "server.key.before-newleaf"), "utf8"), "first");
    assert.equal(readFileSync(join(etc, "server.key.before-newleaf-2"), "utf8"), "second");
  });

  it("refuses a link to a file that is not kept, and a relative path", async () => {
    const { target } = setUp({ "crl.pem": "crl.pem" });
    await assert.rejects(ensureLinks(target, { adopt: false }), /crl\.pem, which is not among files/);
    await assert.rejects(ensureLinks({ ...target, links: { x: "key.pem" } }, { adopt: false }), /not an absolute path/);
  });
});
