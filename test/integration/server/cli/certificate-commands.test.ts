import assert from "node:assert/strict";
import { createPublicKey, X509Certificate } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, suite, test } from "node:test";
import type { CertificateAnswer, PendingAnswer } from "@newleaf/shared/api";
import { keyFingerprint } from "@newleaf/shared/fingerprint";
import { requestJson } from "@newleaf/shared/http-client";
import { generateKey } from "@newleaf/shared/key-algorithm";
import { type Identity, operatorCommands } from "../../../support/operator-commands.ts";
import { startService } from "../../../support/service.ts";
import { newleaf } from "../../../support/terminal.ts";

const service = await startService();
after(() => service[Symbol.asyncDispose]());
const { command, must, json, enroll, enrolled } = operatorCommands(service);

suite("token", () => {
  test("create --json is exactly the contract's four fields, and the token enrolls once", async () => {
    await must(["identity", "add", "tokened", "--profile", "agent"]);
    const created = await json<Record<string, string>>("token", "create", "tokened", "--ttl", "2h");
    assert.deepEqual(Object.keys(created), ["token", "identity", "expiresAt", "rootFingerprint"]);
    const root = new X509Certificate(service.roots);
    assert.equal(created["rootFingerprint"], `sha256:${root.fingerprint256.replaceAll(":", "").toLowerCase()}`);
    const token = created["token"] ?? "";
    const answer = (await enroll(await generateKey("ecdsa-p256"), { token })) as CertificateAnswer;
    assert.equal(answer.identity, "tokened");
    await assert.rejects(async () => enroll(await generateKey("ecdsa-p256"), { token }), { code: "token-invalid" });
  });

  test("the token alone goes to stdout; list never shows it; a revoked one is worthless", async () => {
    await must(["identity", "add", "piped", "--profile", "agent"]);
    const { out } = await command(["token", "create", "piped"]);
    assert.match(out, /^nl1\.[A-Za-z0-9_-]+\n$/);
    const list = await json<{ id: string; state: string }[]>("token", "list", "--identity", "piped");
    assert.deepEqual(
      list.map(({ state }) => state),
      ["open"],
    );
    assert.ok(!JSON.stringify(list).includes(out.trim().slice(-20)));
    assert.equal((await command(["token", "revoke", list[0]?.id ?? ""])).code, 2);
    await must(["token", "revoke", list[0]?.id ?? "", "--yes"]);
    assert.match(await must(["token", "list", "--identity", "piped"]), /revoked/);
    await assert.rejects(async () => enroll(await generateKey("ecdsa-p256"), { token: out.trim() }), {
      code: "token-invalid",
    });
  });

  test("for an identity that is not there it says what to do", async () => {
    const { code, err } = await command(["token", "create", "nobody"]);
    assert.deepEqual([code, /nobody is not in the inventory.*\(identity-unknown\)/.test(err)], [1, true]);
  });
});

suite("approvals", () => {
  test("approve shows identity, names and fingerprint, asks, and the host gets its certificate", async () => {
    await must(["identity", "add", "waiting", "--profile", "gateway", "--dns", "waiting.internal"]);
    const key = await generateKey("ecdsa-p256");
    const pending = (await enroll(key, { claim: "the new gateway" })) as PendingAnswer;
    assert.match(await must(["approvals", "list"]), /the new gateway/);
    assert.equal(
      (await json<{ fingerprint: string }>("approvals", "show", pending.id)).fingerprint,
      keyFingerprint(key),
    );

    const no = await command(["approvals", "approve", pending.id, "waiting"], { answers: ["n"] });
    for (const shown of ["waiting", "waiting.internal", keyFingerprint(key), "the new gateway"])
      assert.ok(no.err.includes(shown), no.err);
    assert.equal((await json<{ state: string }>("approvals", "show", pending.id)).state, "pending");
    assert.equal((await command(["approvals", "approve", pending.id, "waiting"])).code, 2);
    const other = await command([
      "approvals",
      "approve",
      pending.id,
      "waiting",
      "--yes",
      "--fingerprint",
      `sha256:${"0".repeat(64)}`,
    ]);
    assert.deepEqual([other.code, /nothing was decided/.test(other.err)], [1, true]);

    await must(["approvals", "approve", pending.id, "waiting", "--yes", "--fingerprint", keyFingerprint(key)]);
    const answer = await requestJson({
      url: service.urls.enrollment + pending.poll,
      method: "GET",
      tls: { ca: service.roots },
      timeoutMs: 10_000,
      maxBytes: 100_000,
    });
    assert.equal((answer.body as CertificateAnswer).identity, "waiting");
  });

  test("deny asks, and the host is told", async () => {
    const pending = (await enroll(await generateKey("ecdsa-p256"), {})) as PendingAnswer;
    assert.equal((await command(["approvals", "deny", pending.id])).code, 2);
    await must(["approvals", "deny", pending.id], { answers: ["y"] });
    const poll = requestJson({
      url: service.urls.enrollment + pending.poll,
      method: "GET",
      tls: { ca: service.roots },
      timeoutMs: 10_000,
      maxBytes: 100_000,
    });
    await assert.rejects(poll, { code: "enrollment-denied" });
  });
});

suite("cert and lineage", () => {
  test("list, show and export; serials as openssl prints them", async () => {
    const leaf = await enrolled("exported");
    const listed = await json<{ serial: string }[]>("cert", "list", "--identity", "exported");
    assert.deepEqual(
      listed.map(({ serial }) => serial),
      [leaf.serial],
    );
    assert.equal(await must(["cert", "export", leaf.serial]), leaf.certificate + leaf.chain);
    assert.equal(await must(["cert", "export", leaf.serial, "--leaf"]), leaf.certificate);
    const colons = leaf.serial.toUpperCase().replace(/..(?=.)/g, "$&:");
    assert.match(await must(["cert", "show", colons]), new RegExp(`^serial: "?${leaf.serial}"?$`, "m"));
    const unknown = await command(["cert", "show", "1234"]);
    assert.deepEqual([unknown.code, /\(serial-unknown\)/.test(unknown.err)], [1, true]);
  });

  test("revoke: a dry run changes nothing, a person is shown and asked, then it is on the CRL", async () => {
    const leaf = await enrolled("revoked");
    const state = async (): Promise<string> => (await json<{ state: string }>("cert", "show", leaf.serial)).state;
    assert.match(await must(["cert", "revoke", "--identity", "revoked", "--dry-run"]), /would be revoked/);
    assert.equal(await state(), "pending");
    assert.equal((await command(["cert", "revoke", "--serial", leaf.serial])).code, 2);
    const alone = await command(["cert", "hold", leaf.serial, "--wait", "5s", "--yes"]);
    assert.deepEqual([alone.code, /No agent is connected: nobody confirmed/.test(alone.out)], [0, true], alone.out);
    await must(["cert", "release", leaf.serial]);
    const no = await command(["cert", "revoke", "--serial", leaf.serial], { answers: ["no"] });
    assert.ok(no.code === 0 && no.err.includes(leaf.serial) && no.err.includes("would be revoked"));
    assert.equal(await state(), "pending");
    const before = await json<{ kind: string; crl: { number: number } }[]>("crl", "show");
    const answer = await json<{ revoked: { serial: string }[]; blockedKeys: string[] }>(
      "cert",
      "revoke",
      "--key",
      keyFingerprint(createPublicKey(leaf.key)),
      "--reason",
      "keyCompromise",
      "--yes",
    );
    assert.deepEqual(
      [answer.revoked.map(({ serial }) => serial), answer.blockedKeys],
      [[leaf.serial], [keyFingerprint(leaf.key)]],
    );
    assert.equal(await state(), "revoked");
    const after = await json<{ kind: string; crl: { number: number } }[]>("crl", "show");
    const number = (issuers: typeof before): number =>
      issuers.find(({ kind }) => kind === "intermediate")?.crl.number ?? 0;
    assert.equal(number(after), number(before) + 1);
    assert.match(await must(["cert", "list", "--state", "revoked"]), /revoked \(keyCompromise\)/);
  });

  test("exactly one target, and a reason that exists", async () => {
    assert.equal((await command(["cert", "revoke", "--yes"])).code, 2);
    assert.equal((await command(["cert", "revoke", "--serial", "12", "--identity", "x", "--yes"])).code, 2);
    const leaf = await enrolled("reasoned");
    const { code, err } = await command(["cert", "revoke", "--serial", leaf.serial, "--reason", "boredom", "--yes"]);
    assert.deepEqual([code, /It is one of unspecified, keyCompromise/.test(err)], [2, true]);
  });

  test("hold and release", async () => {
    const leaf = await enrolled("held");
    assert.equal((await command(["cert", "hold", leaf.serial])).code, 2);
    await must(["cert", "hold", leaf.serial, "--yes"]);
    assert.equal((await json<{ state: string }>("cert", "show", leaf.serial)).state, "held");
    await must(["cert", "release", leaf.serial]);
    assert.equal((await json<{ state: string }>("cert", "show", leaf.serial)).state, "pending");
    assert.equal((await command(["cert", "release", leaf.serial])).code, 1);
  });

  test("lineage list, show, release of one that is not locked, revoke", async () => {
    const leaf = await enrolled("lined");
    const [listed] = await json<{ id: string; state: string }[]>("lineage", "list", "--identity", "lined");
    assert.deepEqual([listed?.id, listed?.state], [leaf.lineage, "active"]);
    const shown = await json<{ certificates: { serial: string }[] }>("lineage", "show", leaf.lineage);
    assert.deepEqual(
      shown.certificates.map(({ serial }) => serial),
      [leaf.serial],
    );
    assert.equal((await command(["lineage", "release", leaf.lineage])).code, 2, "nobody to ask");
    const released = await command(["lineage", "release", leaf.lineage, "--yes"]);
    assert.deepEqual([released.code, /\(conflict\)/.test(released.err)], [1, true]);
    assert.equal((await command(["lineage", "revoke", leaf.lineage])).code, 2);
    await must(["lineage", "revoke", leaf.lineage, "--yes"]);
    assert.equal((await json<{ state: string }>("lineage", "show", leaf.lineage)).state, "ended");
    await assert.rejects(enroll(leaf.key, {}), { code: "key-blocked" });
  });
});

suite("ca, crl, status, audit", () => {
  test("ca list, crl publish and status", async () => {
    assert.deepEqual((await json<{ kind: string }[]>("ca", "list")).map(({ kind }) => kind).toSorted(), [
      "intermediate",
      "root",
    ]);
    const [published] = await json<{ number: number }[]>("crl", "publish");
    const shown = await json<{ kind: string; crl: { number: number } }[]>("crl", "show");
    assert.equal(shown.find(({ kind }) => kind === "intermediate")?.crl.number, published?.number);
    const root = (await json<{ id: string; kind: string }[]>("ca", "list")).find(({ kind }) => kind === "root");
    const refused = await command(["crl", "publish", root?.id ?? ""]);
    assert.deepEqual([refused.code, /\(issuer-unavailable\)/.test(refused.err)], [1, true]);
    assert.match(await must(["status"]), /^- the root's key is still on this host/m);
    assert.ok("attention" in (await json<object>("status")));
  });

  test("audit names the operator; its chain verifies, from the service and from a copy; a changed copy does not", async () => {
    await must(["identity", "add", "audited", "--profile", "agent"]);
    const [row] = await json<{ actor: string; action: string }[]>("audit", "list", "--target", "audited");
    assert.deepEqual([row?.actor, row?.action], ["admin@operators", "identity.added"]);
    assert.equal((await json<object[]>("audit", "list", "--limit", "3")).length, 3);
    const verdict = await json<{ ok: boolean; rows: number }>("audit", "verify");
    assert.ok(verdict.ok && verdict.rows > 10);

    const copy = join(service.dir, "audit.jsonl");
    await must(["audit", "export", "--out", copy]);
    assert.match(await must(["audit", "verify", "--file", copy]), /^The chain holds: \d+ rows/);
    const lines = readFileSync(copy, "utf8").trimEnd().split("\n");
    for (const [altered, reason] of [
      [lines.with(4, (lines[4] ?? "").replace('"actor":"', '"actor":"x')), /altered/],
      [lines.toSpliced(4, 1), /missing/],
    ] as const) {
      writeFileSync(copy, `${altered.join("\n")}\n`);
      const { code, err } = await command(["audit", "verify", "--file", copy]);
      assert.equal(code, 1);
      assert.match(err, reason);
    }
  });

  test("a copy that cannot be read, is empty or is something else says which; an export is not written over another", async () => {
    const file = join(service.dir, "other.jsonl");
    for (const [content, code, reason] of [
      [null, 2, /other\.jsonl cannot be read \(there is no such file or directory, ENOENT\)/],
      ["", 2, /other\.jsonl is empty/],
      ["no log\n", 1, /other\.jsonl, line 1, is no row of an audit log/],
    ] as const) {
      if (content !== null) writeFileSync(file, content);
      const refused = await command(["audit", "verify", "--file", file]);
      assert.deepEqual([refused.code, reason.test(refused.err)], [code, true], refused.err);
      assert.doesNotMatch(refused.err, /\n {4}at /);
    }
    const again = await command(["audit", "export", "--out", file]);
    assert.deepEqual([again.code, /other\.jsonl exists/.test(again.err)], [2, true], again.err);
    assert.equal(readFileSync(file, "utf8"), "no log\n");
  });

  test("a value that cannot be is wrong usage, and says what can be; fingerprints are read as tools print them", async () => {
    for (const [argv, known] of [
      [["cert", "list", "--state", "gone"], "superseded"],
      [["cert", "revoke", "--identity", "audited", "--reason", "because"], "cessationOfOperation"],
      [["cert", "revoke", "--key", "sha256:beef"], "64 hex digits"],
      [["identity", "list", "--state", "gone"], "suspended"],
      [["lineage", "list", "--state", "gone"], "locked"],
      [["approvals", "list", "--state", "gone"], "denied"],
    ] as const) {
      const { code, err } = await command([...argv]);
      assert.deepEqual([code, err.includes(known)], [2, true], err);
    }
    const [certificate] = await json<{ key: string }[]>("cert", "list", "--identity", "admin@operators");
    const spelled = (certificate?.key ?? "").slice(7).toUpperCase().match(/../g)?.join(":") ?? "";
    const found = await json<{ revoked: object[] }>("cert", "revoke", "--key", spelled, "--dry-run");
    assert.equal(found.revoked.length, 1);
  });
});

suite("the way to the service", () => {
  test("lists follow every page", async () => {
    const entries = Array.from(
      { length: 620 },
      (_, index) => `  - { id: many-${index}, profile: agent, labels: { set: many } }`,
    );
    const path = join(service.dir, "many.yml");
    writeFileSync(path, `identities:\n${entries.join("\n")}\n`);
    await must(["inventory", "apply", "-f", path]);
    assert.equal((await json<Identity[]>("identity", "list", "--label", "set=many")).length, 620);
  });

  test("--server with --roots and --as reaches a service whose directory is elsewhere", async () => {
    const operator = join(service.dataDir, "operators", "admin@operators");
    const remote = [
      "--server",
      service.urls.admin,
      "--roots",
      service.rootsFile,
      "--as",
      operator,
      "--data",
      join(service.dir, "elsewhere"),
    ];
    const { code, out, err } = await newleaf(["ca", "list", "--json", ...remote]);
    assert.equal(code, 0, err);
    assert.equal((JSON.parse(out) as unknown[]).length, 2);
    assert.equal((await newleaf(["ca", "list", "--server", "http://x:1", "--as", operator])).code, 2);
  });

  test("no data directory, no operator, nobody listening: each says what to do", async () => {
    const nowhere = await newleaf(["status", "--data", join(service.dir, "nowhere")]);
    assert.deepEqual([nowhere.code, /There is no Newleaf data directory at/.test(nowhere.err)], [1, true]);
    const nobody = await command(["status", "--as", "nobody"]);
    assert.deepEqual([nobody.code, /--as nobody is neither an operator/.test(nobody.err)], [1, true]);
    const operator = join(service.dataDir, "operators", "admin@operators");
    const silent = await newleaf([
      "status",
      "--server",
      "https://127.0.0.1:1",
      "--roots",
      service.rootsFile,
      "--as",
      operator,
    ]);
    assert.deepEqual([silent.code, /does not answer at 127\.0\.0\.1:1/.test(silent.err)], [1, true]);
  });

  test("help and version are no errors; an unknown command or option is wrong usage", async () => {
    for (const argv of [["--help"], ["--version"], ["cert", "revoke", "--help"], ["help", "init"]])
      assert.equal((await newleaf(argv)).code, 0, argv.join(" "));
    for (const argv of [[], ["nonsense"], ["cert"], ["status", "--nonsense"], ["identity", "show"]])
      assert.equal((await newleaf(argv)).code, 2, argv.join(" "));
    assert.match((await newleaf(["identity", "add", "--help"])).out, /Examples:\n {2}newleaf identity add/);
  });
});
