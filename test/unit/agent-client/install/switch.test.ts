import assert from "node:assert/strict";
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import type { FileName, VersionFacts } from "../../../../agent-client/install/material.ts";
import { stage } from "../../../../agent-client/install/stage.ts";
import {
  confirm,
  prune,
  quarantine,
  quarantined,
  rollback,
  switchTo,
} from "../../../../agent-client/install/switch.ts";
import type { Target } from "../../../../agent-client/install/target.ts";
import { temporaryDirectory } from "../../../support/temporary-directory.ts";

describe("switching versions", () => {
  const directory = temporaryDirectory("switch");
  let count = 0;

  /** A new target; `add(n)` stages version n. */
  const setUp = (): {
    target: Target;
    add(number: number): Promise<string>;
    links(): { current: string | null; previous: string | null };
    versions(): string[];
  } => {
    count += 1;
    const files: FileName[] = ["key.pem"];
    const home = join(directory, String(count));
    const target: Target = { directory: home, files, owner: null, group: null, mode: 0o600, links: {} };
    const link = (name: string): string | null => {
      try {
        return readlinkSync(join(home, name)).replace("versions/", "");
      } catch {
        return null;
      }
    };
    return {
      target,
      async add(number) {
        const facts: VersionFacts = {
          fingerprint: `sha256:${String(number).padStart(64, "0")}`.replace(
            /^sha256:0{8}/,
            `sha256:${String(number).padStart(8, "0")}`,
          ),
          notAfter: 0,
          bundleVersion: 1,
          crlNumbers: {},
          stagedAt: Date.UTC(2026, 0, number),
        };
        return (await stage(target, new Map([["key.pem", Buffer.from(`key ${number}`)]]), facts)).version;
      },
      links: () => ({ current: link("current"), previous: link("previous") }),
      versions: () => readdirSync(join(home, "versions")).toSorted(),
    };
  };

  it("switches every file at once, and keeps the way back", async () => {
    const { target, add, links } = setUp();
    const [one, two] = [await add(1), await add(2)];
    await switchTo(target, one);
    assert.deepEqual(links(), { current: one, previous: null });
    await switchTo(target, two);
    assert.deepEqual(links(), { current: two, previous: one });
    assert.equal(readFileSync(join(target.directory, "current", "key.pem"), "utf8"), "key 2");
    // Relative, so that the tree can be mounted anywhere.
    assert.equal(readlinkSync(join(target.directory, "current")), `versions/${two}`);
  });

  it("can be repeated, and taken up after a crash between its two links", async () => {
    const { target, add, links } = setUp();
    const [one, two] = [await add(1), await add(2)];
    await switchTo(target, one);
    symlinkSync(`versions/${one}`, join(target.directory, "previous"));
    symlinkSync(`versions/${two}`, join(target.directory, ".current.newleaf-00c0ffee"));
    for (let again = 0; again < 3; again += 1) await switchTo(target, two);
    assert.deepEqual(links(), { current: two, previous: one });
    await prune(target);
    assert.deepEqual(readdirSync(target.directory).toSorted(), ["current", "previous", "versions"]);
  });

  it("refuses a version that is incomplete, altered, unknown or quarantined, and changes nothing", async () => {
    const { target, add, links } = setUp();
    const [one, two, three, four] = [await add(1), await add(2), await add(3), await add(4)];
    await switchTo(target, one);
    rmSync(join(target.directory, "versions", two, "key.pem"));
    await assert.rejects(switchTo(target, two), /not whole: key\.pem is missing/);
    writeFileSync(join(target.directory, "versions", three, "key.pem"), "longer than it was");
    await assert.rejects(switchTo(target, three), /key\.pem was altered/);
    await quarantine(target, four, "nginx -t failed");
    await assert.rejects(switchTo(target, four), /quarantined/);
    await assert.rejects(switchTo(target, "20260101T000000Z-00000000"), /not whole/);
    await assert.rejects(switchTo(target, "../../etc"), /not the name of a version/);
    assert.deepEqual(links(), { current: one, previous: null });
  });

  it("rolls back to the version before, once, however often it is asked", async () => {
    const { target, add, links } = setUp();
    const [one, two] = [await add(1), await add(2)];
    await switchTo(target, one);
    await switchTo(target, two);
    for (let again = 0; again < 3; again += 1) {
      assert.equal(await rollback(target), one);
      assert.deepEqual(links(), { current: one, previous: one });
    }
    const three = await add(3);
    await switchTo(target, three);
    assert.deepEqual(links(), { current: three, previous: one });
  });

  it("has no way back from the first version, to a broken one, or to a quarantined one", async () => {
    const { target, add, links } = setUp();
    assert.equal(await rollback(target), null);
    const [one, two] = [await add(1), await add(2)];
    await switchTo(target, one);
    assert.equal(await rollback(target), null);
    await switchTo(target, two);
    await quarantine(target, one, "broke the server");
    assert.equal(await rollback(target), null);
    rmSync(join(target.directory, "versions", one), { recursive: true });
    assert.equal(await rollback(target), null);
    assert.equal(links().current, two);
  });

  it("leads back to what was seen served, past versions that never were", async () => {
    const { target, add, links } = setUp();
    const [one, two, three, four] = [await add(1), await add(2), await add(3), await add(4)];
    await switchTo(target, one);
    await confirm(target, one);
    await confirm(target, one);
    await switchTo(target, two);
    await switchTo(target, three);
    assert.deepEqual(links(), { current: three, previous: one });
    await confirm(target, three);
    await switchTo(target, four);
    assert.deepEqual(links(), { current: four, previous: three });
  });

  it("never makes a quarantined version the way back", async () => {
    const { target, add, links } = setUp();
    const [one, two, three] = [await add(1), await add(2), await add(3)];
    await switchTo(target, one);
    await switchTo(target, two);
    await quarantine(target, two, "handshakes failed");
    await quarantine(target, two, "handshakes failed");
    await switchTo(target, three);
    assert.deepEqual(links(), { current: three, previous: one });
    assert.deepEqual(
      [...(await quarantined(target))].map((text) => text.slice(7, 15)),
      ["00000002"],
    );
  });

  it("prunes to three, never what is in force or the way back, and leftovers", async () => {
    const { target, add, links, versions } = setUp();
    const all: string[] = [];
    for (let number = 1; number <= 6; number += 1) all.push(await add(number));
    const [one, two, , , five, six] = all as [string, string, string, string, string, string];
    await switchTo(target, one);
    await switchTo(target, two);
    mkdirSync(join(target.directory, "versions", ".20260101T000000Z-deadbeef.partial"));
    assert.deepEqual(await prune(target, 3), [all[2], all[3], five]);
    assert.deepEqual(versions(), [one, two, six]);
    assert.deepEqual(await prune(target, 3), []);
    assert.deepEqual(await prune(target, 1), [six]);
    assert.deepEqual(links(), { current: two, previous: one });
  });

  it("prunes nothing while no version is in force", async () => {
    const { target, add, versions } = setUp();
    const one = await add(1);
    assert.deepEqual(await prune(target, 0), []);
    assert.deepEqual(versions(), [one]);
  });

  it("does not take over a `current` that somebody else made", async () => {
    const { target, add } = setUp();
    const one = await add(1);
    mkdirSync(join(target.directory, "current"));
    await assert.rejects(switchTo(target, one), /current is not a symbolic link.*move it away/);
    rmSync(join(target.directory, "current"), { recursive: true });
    symlinkSync("/etc", join(target.directory, "current"));
    await assert.rejects(switchTo(target, one), /a link to \/etc/);
    await assert.rejects(prune(target), /a link to \/etc/);
    assert.ok(lstatSync(join(target.directory, "current")).isSymbolicLink());
  });
});
