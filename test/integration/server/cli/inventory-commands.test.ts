import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, suite, test } from "node:test";
import type { CertificateAnswer } from "@newleaf/shared/api";
import { createCsr } from "@newleaf/shared/csr";
import { keyFingerprint } from "@newleaf/shared/fingerprint";
import { generateKey } from "@newleaf/shared/key-algorithm";
import { pemEncode } from "@newleaf/shared/pem";
import { type Identity, operatorCommands } from "../../../support/operator-commands.ts";
import { startService } from "../../../support/service.ts";

const service = await startService();
after(() => service[Symbol.asyncDispose]());
const { command, must, json, enroll, enrolled } = operatorCommands(service);

suite("identity", () => {
  test("add, show, set, list: what was said is what is kept", async () => {
    const key = keyFingerprint(await generateKey("ecdsa-p256"));
    const args = [
      "--dns",
      "gw.internal",
      "--dns",
      "*.gw.internal",
      "--ip",
      "10.0.1.42",
      "--uri",
      "spiffe://lab/gw",
      "--email",
      "ops@lab.internal",
    ];
    await must([
      "identity",
      "add",
      "gw-1",
      "--profile",
      "gateway",
      ...args,
      "--key",
      key,
      "--label",
      "site=lab",
      "--label",
      "note=a=b",
    ]);
    const shown = await json<Identity>("identity", "show", "gw-1");
    assert.deepEqual(shown.names, {
      dns: ["gw.internal", "*.gw.internal"],
      ip: ["10.0.1.42"],
      uri: ["spiffe://lab/gw"],
      email: ["ops@lab.internal"],
    });
    assert.deepEqual(shown.keys, [key]);
    assert.deepEqual(shown.labels, { site: "lab", note: "a=b" });

    await must(["identity", "set", "gw-1", "--dns", "new.internal", "--ip", ""]);
    const changed = await json<Identity>("identity", "show", "gw-1");
    assert.deepEqual(
      [changed.names["dns"], changed.names["ip"], changed.names["uri"]],
      [["new.internal"], [], ["spiffe://lab/gw"]],
    );
    assert.deepEqual(changed.keys, [key], "what was not said stays");

    assert.deepEqual(
      (await json<Identity[]>("identity", "list", "--profile", "gateway")).map(({ id }) => id),
      ["gw-1"],
    );
    assert.match(await must(["identity", "list"]), /^ID +PROFILE +STATE/);
    assert.match(await must(["identity", "show", "gw-1"]), /^id: gw-1$/m);
  });

  test("--key-from takes the fingerprint from a request, PEM or DER", async () => {
    for (const form of ["pem", "der"] as const) {
      const key = await generateKey("ecdsa-p384");
      const file = join(service.dir, `${form}.csr`);
      writeFileSync(file, form === "der" ? createCsr({ key }) : pemEncode("CERTIFICATE REQUEST", createCsr({ key })));
      await must(["identity", "add", `from-${form}`, "--profile", "agent", "--key-from", file]);
      assert.deepEqual((await json<Identity>("identity", "show", `from-${form}`)).keys, [keyFingerprint(key)]);
    }
    const missing = await command(["identity", "add", "x", "--profile", "agent", "--key-from", "/nonexistent"]);
    assert.deepEqual([missing.code, /cannot be read/.test(missing.err)], [2, true]);
  });

  test("an approved fingerprint enrolls once; --rearm-key lets it enroll again", async () => {
    const key = await generateKey("ecdsa-p256");
    await must(["identity", "add", "armed", "--profile", "agent", "--key", keyFingerprint(key)]);
    const first = (await enroll(key, {})) as CertificateAnswer;
    await must(["cert", "revoke", "--serial", first.serial, "--reason", "superseded", "--yes"]);
    await must(["identity", "set", "armed", "--rearm-key"]);
    assert.notEqual(((await enroll(key, {})) as CertificateAnswer).serial, first.serial);
  });

  test("suspend, resume and remove ask first; no is no, and without a terminal it is wrong usage", async () => {
    await must(["identity", "add", "asked", "--profile", "agent"]);
    const state = async (): Promise<string> => (await json<Identity>("identity", "show", "asked")).state;
    assert.equal((await command(["identity", "suspend", "asked"])).code, 2);
    assert.equal((await command(["identity", "remove", "asked"])).code, 2);
    const no = await command(["identity", "suspend", "asked"], { answers: [""] });
    assert.deepEqual([no.code, /Nothing was changed/.test(no.err)], [0, true]);
    assert.equal(await state(), "active");
    await must(["identity", "suspend", "asked"], { answers: ["y"] });
    assert.equal(await state(), "suspended");
    await must(["identity", "resume", "asked"]);
    assert.equal(await state(), "active");
    await must(["identity", "remove", "asked"], { answers: ["yes"] });
    const gone = await command(["identity", "show", "asked"]);
    assert.deepEqual([gone.code, /\(not-found\)/.test(gone.err)], [1, true]);
  });

  test("a shared name is warned of; nothing to set, an unknown profile and a bad label are wrong usage", async () => {
    await must(["identity", "add", "twin-1", "--profile", "agent", "--dns", "twin.internal"]);
    const second = await command(["identity", "add", "twin-2", "--profile", "agent", "--dns", "twin.internal"]);
    assert.match(second.err, /warning: .*twin\.internal/);
    assert.equal((await command(["identity", "set", "twin-1"])).code, 2);
    assert.equal((await command(["identity", "add", "x", "--profile", "king"])).code, 2);
    assert.equal((await command(["identity", "add", "x", "--profile", "agent", "--label", "novalue"])).code, 2);
    assert.equal((await command(["identity", "add", "x"])).code, 2);
    assert.equal((await command(["identity", "list", "--expires-before", "soon"])).code, 2);
  });

  test("list --expires-before finds the leaf that ends in time", async () => {
    await enrolled("ending");
    const within = async (time: string): Promise<boolean> =>
      (await json<Identity[]>("identity", "list", "--expires-before", time)).some(({ id }) => id === "ending");
    assert.deepEqual([await within("31d"), await within("7d")], [true, false]);
  });

  test("list --search finds by id, name, label, owner, serial and fingerprint; --sort orders", async () => {
    const leaf = await enrolled("sought");
    const named = ["--dns", "needle.claw.internal", "--label", "rack=r-77", "--owner", "Night Shift"];
    await must(["identity", "set", "sought", ...named, "--key", `sha256:${"5a".repeat(32)}`]);
    const found = async (text: string): Promise<string[]> =>
      (await json<Identity[]>("identity", "list", "--search", text)).map(({ id }) => id);
    const colons = leaf.serial.toUpperCase().match(/../g)?.slice(0, 6).join(":") ?? "";
    const print = new X509Certificate(leaf.certificate).fingerprint256;
    const key = keyFingerprint(leaf.key);
    for (const text of [
      "sough",
      "NEEDLE",
      "edle.claw",
      "rack=r-77",
      "night sh",
      colons,
      print,
      print.slice(0, 14),
      key.slice(7, 20),
      key,
      "5a5a5a",
    ])
      assert.deepEqual(await found(text), ["sought"], text);
    for (const text of ["nosuchthing", "%", "_", '"', "rack=r-7 ", "ffffffffffff"])
      assert.deepEqual(await found(text), [], text);
    const [first] = await json<Identity[]>("identity", "list", "--sort", "notAfter");
    assert.equal(first?.leaf === null, false, "those with a leaf come first");
    assert.equal((await command(["identity", "list", "--sort", "beauty"])).code, 2);
    assert.match(await must(["identity", "show", "sought"]), /^Issued 20.*\n\nid: sought\n/);
  });

  test("grant-recovery opens a grant", async () => {
    await must(["identity", "add", "lost", "--profile", "agent"]);
    const grant = await json<{ expiresAt: string }>("identity", "grant-recovery", "lost", "--ttl", "2h");
    assert.ok(Math.abs(Date.parse(grant.expiresAt) - Date.now() - 7_200_000) < 60_000);
  });
});

suite("inventory", () => {
  const file = (text: string): string => {
    const path = join(service.dir, "inventory.yml");
    writeFileSync(path, text);
    return path;
  };

  test("a dry run prints the difference and changes nothing; apply does it; again is unchanged", async () => {
    const path = file(`identities:
  - id: inv-1
    profile: gateway
    names: { dns: [inv.internal], ip: [], uri: [], email: [] }
    labels: { site: lab }
  - id: inv-2
    profile: agent
`);
    const plan = await must(["inventory", "apply", "-f", path, "--dry-run"]);
    assert.match(plan, /^\+ inv-1$/m);
    assert.match(plan, /^ {4}\+ dns: inv\.internal$/m);
    assert.match(plan, /^Plan: 2 to add, 0 to change, 0 to remove, 0 unchanged\.$/m);
    assert.equal((await command(["identity", "show", "inv-1"])).code, 1);

    await must(["inventory", "apply", "-f", path]);
    assert.deepEqual((await json<Identity>("identity", "show", "inv-1")).names["dns"], ["inv.internal"]);
    assert.match(
      await must(["inventory", "apply", "-f", path]),
      /^Plan: 0 to add, 0 to change, 0 to remove, 2 unchanged\.$/m,
    );

    const changed = file(
      readFileSync(path, "utf8")
        .replace("dns: [inv.internal]", "dns: [two.internal]")
        .replace("{ site: lab }", "{ site: prod, rack: a }\n    owner: Kim"),
    );
    assert.match(
      await must(["inventory", "apply", "-f", changed]),
      /^~ inv-1\n {4}- dns: inv\.internal\n {4}\+ dns: two\.internal\n {4}\+ label: rack=a\n {4}~ label: site=lab -> site=prod\n {4}\+ owner: Kim$/m,
    );
    const shown = await json<{ owner: string | null; notes: string | null }>("identity", "show", "inv-1");
    assert.deepEqual([shown.owner, shown.notes], ["Kim", null]);
  });

  test("prune removes what is not listed, asks, and counts what it would revoke; operators stay", async () => {
    const held = await enrolled("pruned");
    const path = join(service.dir, "prune.yml");
    const kept = (await must(["inventory", "export"])).replace(/ {2}- id: pruned\n(?: {4}.*\n)*/, "");
    assert.ok(!kept.includes("pruned") && !kept.includes("admin@operators"));
    writeFileSync(path, kept);
    assert.match(
      await must(["inventory", "apply", "-f", path, "--prune", "--dry-run"]),
      /^- pruned {2}\(revokes 1 usable certificate\)$/m,
    );
    const unsaid = await command(["inventory", "apply", "-f", path, "--prune", "--yes"]);
    assert.deepEqual([unsaid.code, /of pruned\. .*--revoke-live/.test(unsaid.err)], [1, true], unsaid.err);
    const prune = ["inventory", "apply", "-f", path, "--prune", "--revoke-live"];
    assert.equal((await command(prune)).code, 2, "nobody to ask");
    await must(prune, { answers: ["n"] });
    assert.equal((await json<Identity>("identity", "show", "pruned")).state, "active");
    assert.equal((await command(["inventory", "apply", "-f", path, "--revoke-live"])).code, 2);

    await must([...prune, "--yes"]);
    assert.equal((await command(["identity", "show", "pruned"])).code, 1);
    assert.equal((await json<{ state: string }>("cert", "show", held.serial)).state, "revoked");
    assert.equal((await json<Identity>("identity", "show", "admin@operators")).state, "active");
  });

  test("keys that stand twice are refused, all of them at once; names and gateways without one are warned of", async () => {
    const [one, two, three] = ["1", "2", "3"].map((digit) => `sha256:${digit.repeat(64)}`);
    await must(["identity", "add", "holder", "--profile", "agent", "--key", one ?? "", "--dns", "held.internal"]);
    const path = file(`identities:
  - { id: dup-1, profile: agent, names: { dns: [held.internal] }, keys: ["${one}", "${two}"] }
  - { id: dup-2, profile: agent, names: { dns: [HELD.internal, both.internal] }, keys: ["${two}"] }
  - { id: dup-3, profile: gateway, names: { dns: [both.internal] }, keys: ["${three}"] }
  - { id: dup-4, profile: gateway }
`);
    const refused = await command(["inventory", "apply", "-f", path]);
    assert.equal(refused.code, 1);
    assert.match(
      refused.err,
      /dup-1: key sha256:1+ belongs to holder; dup-2: key sha256:2+ belongs to dup-1.*\(key-in-use\)/,
    );
    assert.equal((await command(["identity", "show", "dup-3"])).code, 1, "nothing was changed");

    const mended = file(readFileSync(path, "utf8").replaceAll(/keys: \[[^\]]*\]/g, "keys: []"));
    const plan = await json<{ warnings: string[] }>("inventory", "apply", "-f", mended, "--dry-run");
    assert.deepEqual(plan.warnings.slice(0, 2).toSorted(), [
      "both.internal is shared by dup-2, dup-3",
      "held.internal is shared by dup-1, holder, dup-2",
    ]);
    assert.match(plan.warnings[2] ?? "", /^dup-4 is a gateway without any name/);
    assert.match(
      (
        await command([
          "inventory",
          "apply",
          "-f",
          file("identities: [{id: k, profile: agent}, {id: k, profile: agent}]"),
        ])
      ).err,
      /k: listed more than once/,
    );
  });

  test("a key moves from one identity to another in one file", async () => {
    const key = `sha256:${"4".repeat(64)}`;
    await must(["identity", "add", "gives", "--profile", "agent", "--key", key]);
    await must([
      "inventory",
      "apply",
      "-f",
      file(`identities: [{id: gives, profile: agent}, {id: takes, profile: agent, keys: ["${key}"]}]`),
    ]);
    assert.deepEqual((await json<Identity>("identity", "show", "takes")).keys, [key]);
  });

  test("export is what apply reads: no difference, whatever stands in it", async () => {
    const names = ["--uri", "spiffe://claw/odd", "--email", "a@claw.internal"];
    const labels = ["--label", "yes=no", "--label", "n=1.0", "--label", "colon=a: b # c"];
    const texts = ["--owner", `- 'Ö' & "co": {x}`, "--notes", "null"];
    await must(["identity", "add", "odd", "--profile", "agent", ...names, ...labels, ...texts]);
    const path = file(await must(["inventory", "export"]));
    const plan = await json<{ changes: { kind: string }[] }>("inventory", "apply", "-f", path, "--dry-run");
    assert.ok(plan.changes.length > 0 && plan.changes.every(({ kind }) => kind === "unchanged"));
  });

  test("an unknown key is named with its identity and the nearest known one, and nothing is sent", async () => {
    const { code, err } = await command([
      "inventory",
      "apply",
      "-f",
      file("identities:\n  - id: k\n    profile: agent\n    name: {}\n"),
    ]);
    assert.equal(code, 1);
    assert.match(err, /line 4: identities\[0\] \(k\): "name" is not a known key; did you mean "names"\?/);
    const nested = await command([
      "inventory",
      "apply",
      "-f",
      file("identities: [{id: k, profile: agent, names: {dsn: [a]}}]"),
    ]);
    assert.match(nested.err, /identities\[0\] \(k\) names: "dsn" is not a known key; did you mean "dns"\?/);
    assert.equal((await command(["inventory", "apply", "-f", file("identities: [")])).code, 1);
    assert.equal((await command(["inventory", "apply", "-f", "/nonexistent"])).code, 2);
  });
});
