import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { createHash, X509Certificate } from "node:crypto";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { after, before, suite, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { pemEncode } from "@newleaf/shared/pem";
import { verifyAuditChain } from "../../../../server/audit-chain.ts";
import { openSqliteStore } from "../../../../server/store/sqlite/store.ts";
import { needs } from "../../../support/programs.ts";
import { newleaf } from "../../../support/terminal.ts";

const passphrase = "correct horse battery";
const scratch = mkdtempSync(join(tmpdir(), "newleaf-init-"));
const passphraseFile = join(scratch, "passphrase");
const dataDir = join(scratch, "data");
const program = join(import.meta.dirname, "../../../../server/main.ts");
after(() => rmSync(scratch, { recursive: true }));

/** Path → mode and content hash, of everything below a directory. */
function snapshot(directory: string): Record<string, string> {
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true });
  return Object.fromEntries(
    entries.map((entry) => {
      const path = join(entry.parentPath, entry.name);
      const content = entry.isFile() ? createHash("sha256").update(readFileSync(path)).digest("hex") : "";
      return [relative(directory, path), `${statSync(path).mode.toString(8)} ${content}`];
    }),
  );
}

function openssl(...args: string[]): string {
  return execFileSync("openssl", args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

suite("newleaf init", () => {
  before(async () => {
    writeFileSync(passphraseFile, `${passphrase}\n`, { mode: 0o600 });
    const args = [
      "--ca-name",
      "Claw Lab",
      "--host",
      "ca.claw.internal",
      "--host",
      "10.0.1.2",
      "--operator",
      "kim@operators",
    ];
    const { code, err } = await newleaf(["init", "--data", dataDir, "--root-passphrase-file", passphraseFile, ...args]);
    assert.equal(code, 0, err);
  });

  test("makes the files of the contract, private ones for the owner only", () => {
    const mode = (path: string): string => (statSync(join(dataDir, path)).mode & 0o777).toString(8);
    assert.equal(mode("."), "700");
    const operator = "operators/kim@operators";
    for (const path of [
      "offline/root.key.pem",
      "newleaf.db",
      "newleaf.yml",
      `${operator}/key.pem`,
      `${operator}/chain.pem`,
    ]) {
      assert.equal(mode(path), "600", path);
    }
    const [issuerKey = "", ...others] = readdirSync(join(dataDir, "issuers"));
    assert.match(issuerKey, /^[0-9a-f]{16}\.key\.pem$/);
    assert.deepEqual(others, []);
    assert.equal(mode(join("issuers", issuerKey)), "600");
    for (const path of ["roots.pem", "offline/root.pem", "offline/README.txt"]) assert.equal(mode(path), "644", path);
    assert.deepEqual(readdirSync(dataDir).toSorted(), [
      "issuers",
      "newleaf.db",
      "newleaf.yml",
      "offline",
      "operators",
      "roots.pem",
    ]);
    assert.equal(
      readFileSync(join(dataDir, "roots.pem"), "utf8"),
      readFileSync(join(dataDir, "offline/root.pem"), "utf8"),
    );
  });

  test("no private key of the root is anywhere in the clear", () => {
    const encrypted = readFileSync(join(dataDir, "offline/root.key.pem"), "utf8");
    assert.match(encrypted, /^-----BEGIN ENCRYPTED PRIVATE KEY-----/);
    const root = new X509Certificate(readFileSync(join(dataDir, "roots.pem")));
    const plain = readdirSync(dataDir, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => readFileSync(join(entry.parentPath, entry.name), "utf8"))
      .filter((text) => text.includes("-----BEGIN PRIVATE KEY-----"));
    assert.ok(plain.length >= 2, "the intermediate's and the operator's");
    for (const pem of plain) assert.notEqual(publicOf(pem), root.publicKey.export({ type: "spki", format: "pem" }));
  });

  test("openssl reads the root key with the passphrase and not with another", { skip: needs("openssl") }, () => {
    const key = join(dataDir, "offline/root.key.pem");
    const publicKey = openssl("pkey", "-in", key, "-passin", `file:${passphraseFile}`, "-pubout");
    assert.equal(publicKey, openssl("x509", "-in", join(dataDir, "roots.pem"), "-noout", "-pubkey"));
    assert.throws(() => openssl("pkey", "-in", key, "-passin", "pass:wrong wrong", "-noout"));
    assert.match(openssl("asn1parse", "-in", key), /PBES2[\s\S]*PBKDF2[\s\S]*hmacWithSHA256[\s\S]*aes-256-cbc/);
  });

  test("openssl accepts the operator's chain and both CRLs, strictly", { skip: needs("openssl") }, async () => {
    await using store = await openSqliteStore({ path: join(dataDir, "newleaf.db") });
    const issuers = await store.listIssuers();
    const crls = join(scratch, "crls.pem");
    const latest = await Promise.all(issuers.map((issuer) => store.latestCrl(issuer.id)));
    writeFileSync(crls, latest.map((crl) => pemEncode("X509 CRL", crl?.der ?? new Uint8Array())).join(""));
    const chain = join(dataDir, "operators/kim@operators/chain.pem");
    const strict = ["-x509_strict", "-crl_check_all", "-CRLfile", crls, "-purpose", "sslclient"];
    assert.match(
      openssl("verify", ...strict, "-CAfile", join(dataDir, "roots.pem"), "-untrusted", chain, chain),
      /: OK/,
    );
  });

  test("the store begins with two issuers, their CRLs, bundle 1, two identities and one current leaf, all audited", async () => {
    await using store = await openSqliteStore({ path: join(dataDir, "newleaf.db") });
    const issuers = await store.listIssuers();
    const root = issuers.find((row) => row.kind === "root");
    const intermediate = issuers.find((row) => row.kind === "intermediate");
    assert.ok(root !== undefined && intermediate !== undefined && issuers.length === 2);
    assert.equal(intermediate.parent, root.id);
    assert.ok(intermediate.twin !== null && root.twin === null);
    const rootCrl = await store.latestCrl(root.id);
    assert.equal(rootCrl?.nextUpdate, intermediate.notAfter, "the root's CRL lives as long as the intermediate");
    const bundle = await store.currentBundle();
    assert.deepEqual([bundle?.version, bundle?.roots, bundle?.intermediates], [1, [root.id], [intermediate.id]]);

    const operator = await store.findIdentity("kim@operators");
    assert.deepEqual([operator?.profile, operator?.role, operator?.state], ["operator", "admin", "active"]);
    assert.equal((await store.findIdentity("newleaf"))?.profile, "service");

    const pem = readFileSync(join(dataDir, "operators/kim@operators/chain.pem"));
    const leaf = await store.findCertificate(new X509Certificate(pem).serialNumber.toLowerCase());
    assert.deepEqual([leaf?.state, leaf?.generation, leaf?.profile], ["current", 1, "operator"]);
    assert.equal(Math.round(((leaf?.notAfter ?? 0) - (leaf?.issuedAt ?? 0)) / 86_400_000), 90);

    const rows = await store.readAuditChain(0, 100);
    assert.ok(verifyAuditChain(rows).ok);
    for (const action of ["issuer.added", "crl.published", "identity.added", "certificate.issued"]) {
      assert.ok(
        rows.some((row) => row.action === action),
        action,
      );
    }
  });

  test("each CA has a name of its own", () => {
    const chain = readFileSync(join(dataDir, "operators/kim@operators/chain.pem"), "utf8");
    const intermediate = new X509Certificate(chain.slice(chain.lastIndexOf("-----BEGIN")));
    const root = new X509Certificate(readFileSync(join(dataDir, "roots.pem")));
    assert.match(root.subject, /Claw Lab/);
    assert.match(intermediate.subject, /Claw Lab/);
    assert.notEqual(intermediate.subject, root.subject);
    assert.ok(intermediate.verify(root.publicKey));
  });

  test("a second init changes nothing and says so", async () => {
    const earlier = snapshot(dataDir);
    const again = await newleaf(["init", "--data", dataDir, "--root-passphrase-file", passphraseFile]);
    assert.equal(again.code, 1);
    assert.match(again.err, /already holds a certification authority; nothing was changed/);
    assert.deepEqual(snapshot(dataDir), earlier);
  });

  test("a directory with other files in it is refused untouched", async () => {
    const home = join(scratch, "home");
    mkdirSync(home, { mode: 0o755 });
    writeFileSync(join(home, "letter.txt"), "dear");
    const { code, err } = await newleaf(["init", "--data", home, "--root-passphrase-file", passphraseFile]);
    assert.equal(code, 1);
    assert.match(err, /is not empty \(letter\.txt\); nothing was changed/);
    assert.deepEqual(readdirSync(home), ["letter.txt"]);
    assert.equal(statSync(home).mode & 0o777, 0o755);
  });

  test("the configuration it writes is complete and is what serve reads", async () => {
    const { code, out, err } = await newleaf(["serve", "--data", dataDir, "--check-config"]);
    assert.equal(code, 0, err);
    assert.match(out, /newleaf\.yml holds/);
    assert.match(readFileSync(join(dataDir, "newleaf.yml"), "utf8"), /^publicUrl: http:\/\/ca\.claw\.internal:8080$/m);
  });

  for (const [title, args, answers, message] of [
    ["without a passphrase file and a terminal", [], undefined, /--root-passphrase-file/],
    ["with a short passphrase", [], ["short"], /shorter than 8/],
    ["with two passphrases that differ", [], ["long enough 1", "long enough 2"], /differ; nothing was made/],
    [
      "with a passphrase file that is not there",
      ["--root-passphrase-file", "/nonexistent"],
      undefined,
      /cannot be read \(there is no such file or directory, ENOENT\)/,
    ],
    ["with a host that is no name", ["--host", "Not A Host"], undefined, /neither a DNS name/],
    ["with an https public URL", ["--public-url", "https://ca"], undefined, /RFC 5280/],
    ["with an operator id that is none", ["--operator", "-x y"], undefined, /identity id/],
    ["with the service's identity as operator", ["--operator", "newleaf"], undefined, /service's own identity/],
    ["with an option of a later version", ["--ca-key", "rsa-4096"], undefined, /unknown option/],
  ] as const) {
    test(`is wrong usage ${title}, and nothing is made`, async () => {
      const target = join(scratch, "none");
      const { code, err } = await newleaf(
        ["init", "--data", target, ...args],
        answers === undefined ? {} : { answers },
      );
      assert.equal(code, 2, err);
      assert.match(err, message);
      assert.ok(!existsSync(target));
    });
  }

  test(
    "asks twice for the passphrase on a terminal; an empty directory will do",
    { skip: needs("openssl") },
    async () => {
      const target = join(scratch, "asked");
      mkdirSync(join(target, "lost+found"), { recursive: true, mode: 0o755 });
      const { code, err } = await newleaf(["init", "--data", target], { answers: [passphrase, passphrase] });
      assert.equal(code, 0, err);
      assert.equal(statSync(target).mode & 0o777, 0o700);
      openssl("pkey", "-in", join(target, "offline/root.key.pem"), "-passin", `file:${passphraseFile}`, "-noout");
    },
  );

  test("on a real terminal the passphrase is not echoed", { skip: needs("script", "openssl") }, async () => {
    const target = join(scratch, "terminal");
    const launcher = join(program, "../../bin/newleaf");
    const child = spawn("script", ["-qec", `${launcher} init --data ${target}`, "/dev/null"], {
      env: { ...process.env, NEWLEAF_NODE: process.execPath },
    });
    let shown = "";
    let asked = 0;
    child.stdout.on("data", (chunk: Buffer) => {
      shown += chunk.toString();
      const questions = shown.split(/root key: |same again: /).length - 1;
      // A slip of the finger, taken back, in the first answer.
      for (; asked < questions; asked++)
        child.stdin.write(asked === 0 ? `${passphrase.slice(0, -1)}x\u007f${passphrase.at(-1)}\r` : `${passphrase}\r`);
    });
    const [code] = (await once(child, "close")) as [number | null];
    assert.equal(code, 0, shown);
    assert.equal(asked, 2);
    assert.ok(!shown.includes("correct"), "the passphrase was shown");
    openssl("pkey", "-in", join(target, "offline/root.key.pem"), "-passin", `file:${passphraseFile}`, "-noout");
  });

  test("killed at any moment it leaves nothing that looks done, and the next init succeeds", async () => {
    const target = join(scratch, "killed");
    const counts = { whole: 0, cut: 0 };
    for (let round = 0; round < 8; round++) {
      const child = spawn(
        process.execPath,
        [program, "init", "--data", target, "--root-passphrase-file", passphraseFile],
        {
          stdio: "ignore",
        },
      );
      const ended = once(child, "exit");
      // Killed while it builds, at another depth each time.
      for (let waited = 0; waited < 4000 && !existsSync(target) && child.exitCode === null; waited += 2) await sleep(2);
      await sleep(round * 40);
      child.kill("SIGKILL");
      await ended;
      const { code } = await newleaf(["serve", "--data", target, "--check-config"]);
      assert.equal(code, existsSync(join(target, "newleaf.yml")) ? 0 : 1);
      if (code === 0) {
        counts.whole++;
        rmSync(target, { recursive: true });
      } else {
        counts.cut++;
      }
    }
    assert.ok(counts.cut >= 2, `kills came too late to show anything: ${JSON.stringify(counts)}`);
    const final = await newleaf(["init", "--data", target, "--root-passphrase-file", passphraseFile]);
    assert.equal(final.code, 0, final.err);
    await using store = await openSqliteStore({ path: join(target, "newleaf.db") });
    assert.equal((await store.listIssuers()).length, 2);
    assert.ok(!existsSync(join(target, ".newleaf-init")));
  });
});

suite("newleaf serve", () => {
  test("an empty data directory says how to init", async () => {
    const { code, err } = await newleaf(["serve", "--data", join(scratch, "nothing")]);
    assert.equal(code, 1);
    assert.match(err, /newleaf init --data/);
  });

  for (const path of ["issuers", "operators/kim@operators/versions", "offline"]) {
    test(`keys below ${path} that others can read are refused with the command that mends it`, async () => {
      const key =
        readdirSync(join(dataDir, path), { recursive: true, encoding: "utf8" }).find((name) =>
          name.endsWith("key.pem"),
        ) ?? "";
      const file = join(dataDir, path, key);
      execFileSync("chmod", ["640", file]);
      const { code, err } = await newleaf(["serve", "--data", dataDir, "--check-config"]);
      execFileSync("chmod", ["600", file]);
      assert.equal(code, 1);
      assert.ok(err.includes(`chmod 600 ${file}`), err);
    });
  }

  test("a configuration with an unknown key or variable is refused", async () => {
    const { code, err } = await newleaf(["serve", "--data", dataDir], {
      env: { NEWLEAF_LISTEN_AGENTZ: "127.0.0.1:1" },
    });
    assert.equal(code, 1);
    assert.match(err, /NEWLEAF_LISTEN_AGENTZ is not a known setting; did you mean NEWLEAF_LISTEN_AGENTS/);
  });
});

function publicOf(pem: string): string {
  return openssl("pkey", "-in", writeTemporary(pem), "-pubout");
}

function writeTemporary(pem: string): string {
  const file = join(scratch, "some-key");
  writeFileSync(file, pem, { mode: 0o600 });
  return file;
}
