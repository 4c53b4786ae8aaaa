import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { createPrivateKey, X509Certificate } from "node:crypto";
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { after, describe, it } from "node:test";
import { copyProblem, finishCopies, inspectCopies, prepareCopies } from "../../../../agent-client/install/copies.ts";
import { readInstalled } from "../../../../agent-client/install/installed.ts";
import { ensureLinks } from "../../../../agent-client/install/links.ts";
import { factsOf, type FileName } from "../../../../agent-client/install/material.ts";
import { renderFiles } from "../../../../agent-client/install/render.ts";
import { stage } from "../../../../agent-client/install/stage.ts";
import { confirm, quarantine, rollback, switchTo } from "../../../../agent-client/install/switch.ts";
import type { Target } from "../../../../agent-client/install/target.ts";
import { makeMaterial } from "../../../support/material.ts";
import { needs, needsRoot } from "../../../support/programs.ts";
import { temporaryDirectory } from "../../../support/temporary-directory.ts";
import { makeTestCa } from "../../../support/test-ca.ts";

const files: readonly FileName[] = ["key.pem", "fullchain.pem", "ca.pem", "crl.pem"];
const asRoot = needsRoot("to mount");
const child = join(import.meta.dirname, "..", "..", "..", "support", "copies-child.ts");

describe("copies at fixed paths", { skip: needs("openssl") }, () => {
  const directory = temporaryDirectory("copies");
  const pki = makeTestCa(directory);
  let count = 0;

  /** A target with four copies in two directories; `add()` stages a new leaf. */
  const setUp = () => {
    count += 1;
    const home = join(directory, String(count));
    const place = (name: string): string => join(home, name.endsWith("pem") ? "ssl" : "etc", name);
    for (const part of ["ssl", "etc"]) mkdirSync(join(home, part), { recursive: true });
    const copies: Record<string, FileName> = {
      [place("server.key")]: "key.pem",
      [place("server.crt")]: "fullchain.pem",
      [place("ca.pem")]: "ca.pem",
      [place("crl.pem")]: "crl.pem",
    };
    const target: Target = {
      directory: join(home, "tls"),
      files,
      owner: null,
      group: null,
      mode: 0o640,
      links: {},
      copies,
    };
    let added = 0;
    const add = async (): Promise<string> => {
      const material = makeMaterial(pki);
      const facts = factsOf(material, { bundleVersion: 1, stagedAt: Date.UTC(2026, 0, (added += 1)) });
      return (await stage(target, renderFiles(material, files), facts)).version;
    };
    const isPair = (): boolean =>
      new X509Certificate(readFileSync(place("server.crt"))).checkPrivateKey(
        createPrivateKey(readFileSync(place("server.key"))),
      );
    const shows = (version: string): boolean =>
      Object.entries(copies).every(([path, file]) =>
        readFileSync(path).equals(readFileSync(join(target.directory, "versions", version, file))),
      );
    const leftovers = (): string[] =>
      ["ssl", "etc"].flatMap((part) => readdirSync(join(home, part)).filter((name) => name.startsWith(".")));
    return { home, target, place, add, isPair, shows, leftovers };
  };
  const problemsOf = async (target: Target): Promise<string> =>
    (await readInstalled(target))?.problems.join("; ") ?? "none";

  it("are regular files with a new inode and time at every switch, with the files' mode", async () => {
    const { target, place, add, shows, leftovers } = setUp();
    const one = await add();
    await switchTo(target, one);
    assert.ok(shows(one));
    const before = statSync(place("server.key"));
    assert.ok(lstatSync(place("server.key")).isFile());
    assert.equal(before.mode & 0o7777, 0o640);
    await switchTo(target, one);
    const again = statSync(place("server.key"));
    assert.notEqual(again.ino, before.ino);
    assert.ok(again.mtimeMs >= before.mtimeMs);
    const two = await add();
    await switchTo(target, two);
    assert.ok(shows(two));
    assert.deepEqual(leftovers(), []);
    assert.equal(await problemsOf(target), "");
  });

  it("are put in place in an order that never breaks a reader: CA, CRL, key, certificate last", async () => {
    const { target, add } = setUp();
    const order: string[] = [];
    await switchTo(target, await add(), { adopt: false, checkpoint: (name) => void order.push(basename(name)) });
    assert.deepEqual(order, ["copies-prepared", "ca.pem", "crl.pem", "server.key", "server.crt"]);
  });

  it(
    "are not written into another's directory, nor links, where a user who owns the one above leads there",
    {
      skip: asRoot,
    },
    async () => {
      const { home, target, add } = setUp();
      const [theirs, victim] = [join(home, "theirs"), join(home, "victim")];
      for (const path of [theirs, victim]) mkdirSync(path);
      writeFileSync(join(victim, "server.key"), "another server's key\n", { mode: 0o600 });
      chownSync(theirs, 65_534, 65_534);
      symlinkSync(victim, join(theirs, "tls"));
      const path = join(theirs, "tls", "server.key");
      await assert.rejects(switchTo({ ...target, copies: { [path]: "key.pem" } }, await add(), { adopt: true }), {
        message: /theirs\/tls can be led anywhere by uid 65534/,
      });
      const linked = { ...target, copies: {}, links: { [path]: "key.pem" as const } };
      await assert.rejects(ensureLinks(linked, { adopt: true }), { message: /can be led anywhere by uid 65534/ });
      assert.deepEqual(readdirSync(victim), ["server.key"]);
      assert.equal(readFileSync(join(victim, "server.key"), "utf8"), "another server's key\n");
    },
  );

  it("wait for no pipe and read nothing that is larger than they are", async () => {
    const { target, place, add, shows } = setUp();
    const [one, two] = [await add(), await add()];
    await switchTo(target, one);
    const checkpoint = (name: string): void => {
      if (!name.endsWith("server.key")) return;
      rmSync(place("server.crt"));
      execFileSync("mkfifo", [place("server.crt")]);
    };
    await assert.rejects(switchTo(target, two, { adopt: false, checkpoint }), {
      message: /server\.crt.*not a regular/,
    });
    rmSync(place("server.crt"));
    await switchTo(target, one);
    assert.ok(shows(one));
    // More than would go into memory.
    truncateSync(place("ca.pem"), 3 * 1024 ** 3);
    assert.equal(await problemsOf(target), `the copy ${place("ca.pem")} is not what ca.pem is`);
  });

  it("follow a roll-back", async () => {
    const { target, add, shows } = setUp();
    const [one, two] = [await add(), await add()];
    await switchTo(target, one);
    await confirm(target, one);
    await switchTo(target, two);
    assert.equal(await rollback(target), one);
    assert.ok(shows(one));
    assert.equal(await problemsOf(target), "");
  });

  it("that were cut short by kill -9 after any step are a pair again after the next start", async () => {
    const { target, add, place, shows, isPair, leftovers } = setUp();
    const one = await add();
    await switchTo(target, one);
    const steps = [
      "copies-prepared",
      ...["ca.pem", "crl.pem", "server.key", "server.crt"].map((name) => `copied ${place(name)}`),
    ];
    let torn = 0;
    for (const step of steps) {
      const two = await add();
      const { signal } = spawnSync(process.execPath, [child, JSON.stringify(target), two, step]);
      assert.equal(signal, "SIGKILL", step);
      if (!isPair()) torn += 1;
      assert.equal(await finishCopies(target), true, step);
      assert.ok(isPair(), step);
      // The switch was not made: they are what `current` says. The switch taken up again ends with the new ones.
      assert.ok(shows(one), step);
      assert.equal(await problemsOf(target), "", step);
      assert.equal(await finishCopies(target), false, "once is enough");
      await switchTo(target, two);
      assert.ok(shows(two), step);
      await switchTo(target, one);
    }
    assert.equal(torn, 1, "between key and certificate there was no pair, or this test tests nothing");
    assert.deepEqual(leftovers(), []);
  });

  it("that were on the way back from a set that broke the server go on with the way back", async () => {
    const { target, add, shows } = setUp();
    const [one, two] = [await add(), await add()];
    await switchTo(target, one);
    await switchTo(target, two);
    await quarantine(target, two, "it broke the server");
    await prepareCopies(target, one, { adopt: false });
    assert.ok(shows(two), "killed before the first rename");
    assert.equal(await finishCopies(target), true);
    assert.ok(shows(one));
    assert.equal(await finishCopies(target), false);
    assert.equal(await rollback(target), one);
    assert.equal(await problemsOf(target), "");
  });

  it("that somebody changed, removed or opened are told, and mended by the next switch", async () => {
    const { target, add, place, shows } = setUp();
    const one = await add();
    await switchTo(target, one);
    writeFileSync(place("crl.pem"), "");
    rmSync(place("ca.pem"));
    chmodSync(place("server.key"), 0o644);
    const problems = await problemsOf(target);
    assert.match(problems, /copy \S+crl\.pem is not what crl\.pem is/);
    assert.match(problems, /copy \S+ca\.pem is missing/);
    assert.match(problems, /copy \S+server\.key has not the mode and owner of key\.pem/);
    assert.equal((await readInstalled(target))?.complete, false);
    await switchTo(target, one);
    assert.ok(shows(one));
    assert.equal(await problemsOf(target), "");
  });

  it("refuse what others made and change nothing; with adopt it is moved aside", async () => {
    const { target, add, place, shows, leftovers } = setUp();
    writeFileSync(place("server.crt"), "theirs");
    symlinkSync("/nowhere", place("server.key"));
    const one = await add();
    await assert.rejects(
      switchTo(target, one),
      /server\.key is a link that the agent did not make.*\n.*server\.crt is a file/,
    );
    assert.equal(readFileSync(place("server.crt"), "utf8"), "theirs");
    assert.ok(!existsSync(place("ca.pem")) && !existsSync(join(target.directory, "current")));
    assert.deepEqual(leftovers(), []);
    const { adopted } = await switchTo(target, one, { adopt: true });
    assert.deepEqual(
      adopted.map(({ movedTo }) => basename(movedTo)),
      ["server.key.before-newleaf", "server.crt.before-newleaf"],
    );
    assert.equal(readFileSync(`${place("server.crt")}.before-newleaf`, "utf8"), "theirs");
    assert.equal(readlinkSync(`${place("server.key")}.before-newleaf`), "/nowhere");
    assert.ok(shows(one));
  });

  it("know as theirs what is already what they would write, though their journal is gone", async () => {
    const { target, add, shows } = setUp();
    const one = await add();
    await switchTo(target, one);
    rmSync(join(target.directory, "copies.json"));
    await switchTo(target, one);
    assert.ok(shows(one));
    rmSync(join(target.directory, "copies.json"));
    await assert.rejects(switchTo(target, await add()), /the agent did not make/);
    writeFileSync(join(target.directory, "copies.json"), "{");
    await assert.rejects(switchTo(target, await add()), /the agent did not make/);
  });

  it("say what is in the way: a directory, a parent that is missing", async () => {
    const { target, add, place, home } = setUp();
    mkdirSync(place("ca.pem"));
    rmSync(join(home, "etc"), { recursive: true });
    await assert.rejects(switchTo(target, await add()), /ca\.pem is a directory/);
    await assert.rejects(
      switchTo(target, await add()),
      /etc, where the copy .* should be, is not there: make the directory/,
    );
  });

  it(
    "refuse a path that is a mount of its own, and take back what was done when a rename fails",
    { skip: asRoot },
    async () => {
      const { target, add, place, shows, leftovers } = setUp();
      const one = await add();
      await switchTo(target, one);
      const two = await add();
      execFileSync("mount", ["--bind", place("server.crt"), place("server.crt")]);
      let mounted = true;
      const unmount = (): void => {
        if (mounted) execFileSync("umount", [place("server.crt")]);
        mounted = false;
      };
      after(unmount);
      const reports = await inspectCopies(target);
      const [problem] = reports.map((report) => copyProblem(report, { adopt: true })).filter((text) => text !== null);
      assert.match(problem ?? "", /server\.crt is mounted as a single file.*mount the directory above it/);
      await assert.rejects(switchTo(target, two), /mounted as a single file/);
      unmount();
      assert.ok(shows(one));
      // Mounted only after everything was judged: the last of four renames fails.
      const mountLate = (name: string): void => {
        if (name !== "copies-prepared") return;
        execFileSync("mount", ["--bind", place("server.crt"), place("server.crt")]);
        mounted = true;
      };
      await assert.rejects(
        switchTo(target, two, { adopt: false, checkpoint: mountLate }),
        /mount the directory above it/,
      );
      unmount();
      assert.ok(shows(one), "the three that had been replaced are as before");
      assert.match(readlinkSync(join(target.directory, "current")), new RegExp(one));
      assert.deepEqual(leftovers(), []);
      await switchTo(target, two);
      assert.ok(shows(two));
    },
  );
});
