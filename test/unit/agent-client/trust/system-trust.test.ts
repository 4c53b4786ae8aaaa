/** The bundle's roots in the system's trust store: the real update-ca-certificates on directories of the test's own, openssl as the judge. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { systemClock } from "@newleaf/shared/clock";
import { pemDecode, pemEncode } from "@newleaf/shared/pem";
import { parseConfig } from "../../../../agent-client/config/config.ts";
import { createLog } from "../../../../agent-client/log.ts";
import { debianTrust, openSystemTrust, readSystemTrust } from "../../../../agent-client/trust/system-trust.ts";
import { until } from "../../../support/agent.ts";
import { needs } from "../../../support/programs.ts";
import { temporaryDirectory } from "../../../support/temporary-directory.ts";
import { makeRoot } from "../../../support/test-ca.ts";

describe("systemTrust", { skip: needs("openssl", "update-ca-certificates") }, () => {
  const directory = temporaryDirectory("system-trust");
  const one = makeRoot(join(directory, "one"), "Root One");
  const two = makeRoot(join(directory, "two"), "Root Two");
  let count = 0;

  const setUp = async (command?: readonly string[]) => {
    const home = join(directory, `home-${(count += 1)}`);
    const [local, etc, state, none] = ["local", "etc", "state", "none"].map((name) => {
      mkdirSync(join(home, name), { recursive: true });
      return join(home, name);
    }) as [string, string, string, string];
    writeFileSync(join(home, "conf"), "");
    const calls = join(home, "calls");
    const places = ["--localcertsdir", local, "--certsdir", none, "--etccertsdir", etc];
    const more = ["--certsconf", join(home, "conf"), "--hooksdir", none];
    // Counts its calls, and then is update-ca-certificates.
    const wrapper = join(home, "take-in");
    const line = ["update-ca-certificates", ...places, ...more].map((part) => `'${part}'`).join(" ");
    writeFileSync(wrapper, `#!/bin/sh\necho called >>'${calls}'\ntest ! -e '${home}/broken' || exit 7\nexec ${line}\n`);
    chmodSync(wrapper, 0o700);
    const trust = { trust: { version: 1, roots: [one.certificate] as readonly Buffer[] }, revision: 1 };
    const lines: string[] = [];
    let now = systemClock.now();
    const clock = { ...systemClock, now: () => now };
    const open = (settings = { directory: local, command: command ?? [wrapper] }) =>
      openSystemTrust({
        settings,
        state,
        trust,
        clock,
        random: () => 0.5,
        log: createLog((text) => void lines.push(text), clock.now),
      });
    const installed = (): string[] => readdirSync(local).toSorted();
    const verifies = (leaf: Buffer): boolean => {
      writeFileSync(join(home, "leaf"), pemEncode("CERTIFICATE", leaf));
      try {
        execFileSync("openssl", ["verify", "-no-CAfile", "-no-CAstore", "-CApath", etc, join(home, "leaf")], {
          stdio: "pipe",
        });
        return true;
      } catch {
        return false;
      }
    };
    const called = (): number => (existsSync(calls) ? readFileSync(calls, "utf8").trim().split("\n").length : 0);
    const pass = (ms: number): void => void (now += ms);
    return { home, local, state, trust, lines, open, installed, verifies, called, pass };
  };

  it("has each root in a file of its own, so that programs of this host verify with it", async () => {
    const { local, open, installed, verifies, trust, called, lines } = await setUp();
    const keeper = await open();
    assert.equal(await keeper.sync(), true, lines.join(""));
    assert.equal(installed().length, 1);
    assert.match(installed()[0] ?? "", /^newleaf-[0-9a-f]{16}\.crt$/);
    assert.deepEqual(pemDecode(readFileSync(join(local, installed()[0] ?? ""), "utf8"), "CERTIFICATE"), [
      one.certificate,
    ]);
    const [fromOne, fromTwo] = [one.issue().certificate, two.issue().certificate];
    assert.deepEqual([verifies(fromOne), verifies(fromTwo)], [true, false]);

    Object.assign(trust.trust, { version: 2, roots: [one.certificate, two.certificate] });
    assert.equal(await keeper.sync(), true);
    assert.deepEqual([verifies(fromOne), verifies(fromTwo)], [true, true]);

    Object.assign(trust.trust, { version: 3, roots: [two.certificate] });
    assert.equal(await keeper.sync(), true);
    assert.deepEqual(
      [verifies(fromOne), verifies(fromTwo)],
      [false, true],
      "a root that left the bundle is trusted no more",
    );
    assert.equal(called(), 3);
  });

  it("runs the command only when something changed, after a restart too", async () => {
    const { open, called, installed, local } = await setUp();
    for (let again = 0; again < 3; again += 1) assert.equal(await (await open()).sync(), true);
    assert.equal(called(), 1);
    rmSync(join(local, installed()[0] ?? ""));
    assert.equal(await (await open()).sync(), true);
    assert.equal(installed().length, 1, "somebody had removed it");
    assert.equal(called(), 2);
  });

  it("leaves files of others alone, also those that are called like ours", async () => {
    const { open, local, installed, trust } = await setUp();
    const theirs = ["company.crt", "newleaf-0123456789abcdef.crt"];
    for (const name of theirs) writeFileSync(join(local, name), pemEncode("CERTIFICATE", two.certificate));
    const keeper = await open();
    await keeper.sync();
    Object.assign(trust.trust, { version: 2, roots: [] });
    await keeper.sync();
    assert.deepEqual(installed(), theirs);
  });

  it("waits for a bundle that was accepted", async () => {
    const { open, installed, trust, called } = await setUp();
    trust.trust.version = 0;
    assert.equal(await (await open()).sync(), true);
    assert.deepEqual([installed(), called()], [[], 0]);
  });

  it("keeps what failed, tries again after a pause, and at once when a human asks", async () => {
    const { home, open, state, lines, called, pass } = await setUp();
    writeFileSync(join(home, "broken"), "");
    const keeper = await open();
    assert.equal(await keeper.sync(), false);
    assert.match(keeper.failure?.message ?? "", /trust store was not renewed: .*exit code 7/);
    assert.match(lines.join(""), /system-trust-failed/);
    assert.equal(await keeper.sync(), false);
    assert.equal(called(), 1, "not before the pause is over");
    assert.equal(await keeper.sync({ now: true }), false);
    assert.equal(called(), 2);
    assert.equal((await readSystemTrust(state))?.failure?.failures, 2);
    rmSync(join(home, "broken"));
    pass(60 * 60_000);
    assert.equal(await (await open()).sync(), true);
    assert.equal((await readSystemTrust(state))?.failure, null);
  });

  it("says so when the directory is not there", async () => {
    const { open, home } = await setUp();
    const keeper = await open({ directory: join(home, "gone"), command: ["true"] });
    assert.equal(await keeper.sync(), false);
    assert.match(keeper.failure?.message ?? "", /gone.*ENOENT|ENOENT.*gone/);
  });

  it("moves with the configuration", async () => {
    const { open, home, installed } = await setUp();
    await (await open()).sync();
    const elsewhere = join(home, "elsewhere");
    mkdirSync(elsewhere);
    assert.equal(await (await open({ directory: elsewhere, command: ["true"] })).sync(), true);
    assert.deepEqual([installed().length, readdirSync(elsewhere).length], [0, 1]);
  });

  it("follows the bundle while the agent runs", async () => {
    const { open, installed, trust } = await setUp();
    const keeper = await open();
    const stopping = new AbortController();
    const running = keeper.run(stopping.signal);
    await until("the first root", () => installed().length === 1);
    Object.assign(trust.trust, { version: 2, roots: [one.certificate, two.certificate] });
    trust.revision += 1;
    await until("the second root", () => installed().length === 2);
    stopping.abort();
    await running;
  });

  it("is off unless asked for; true is Debian's way, others name directory and command", () => {
    const read = (line: string) =>
      parseConfig(
        `server: https://a\nenrollment: https://b\n${line}\ncertificates: [{ name: a, directory: /a, reload: watch, probe: none }]`,
        "agent.yml",
      ).systemTrust;
    assert.equal(read(""), null);
    assert.equal(read("systemTrust: false"), null);
    assert.deepEqual(read("systemTrust: true"), debianTrust);
    const redHat = { directory: "/etc/pki/ca-trust/source/anchors", command: ["update-ca-trust"] };
    assert.deepEqual(read(`systemTrust: ${JSON.stringify(redHat)}`), redHat);
    assert.throws(() => read("systemTrust: { directory: /a }"), /systemTrust\.command is missing/);
    assert.throws(() => read("systemTrust: yes"), /systemTrust must be a mapping/);
    assert.throws(() => read("systemTrust: { directory: a, command: [b] }"), /must be an absolute path/);
  });
});
