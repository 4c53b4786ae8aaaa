import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { readCrl } from "@newleaf/shared/crl";
import { systemCaller, type Caller } from "../../server/authority/authority.ts";
import { importCrl } from "../../server/authority/revocation/import-crl.ts";
import { finishRevokedIssuers, revokeIssuer } from "../../server/authority/revocation/revoke-issuer.ts";
import { pemDecode, pemEncode } from "@newleaf/shared/pem";
import { credentials, newKey, csrFor, renew, settled, use, type Host } from "../support/agent-client.ts";
import { openSsl } from "../support/openssl.ts";
import { needs } from "../support/programs.ts";
import { addSecondIssuer, rootPassphrase, type SecondIssuer } from "../support/second-issuer.ts";
import { operatorId, startService, type TestService } from "../support/service.ts";
import { newleaf } from "../support/terminal.ts";

let service: TestService;
let issuers: SecondIssuer;
/** Under the first issuer. */
let old: Host;
let held: Host;
let passphraseFile: string;
let root: { id: string };

const command = (...argv: string[]) => newleaf([...argv, "--data", service.dataDir]);

async function must(...argv: string[]): Promise<string> {
  const { code, out, err } = await command(...argv);
  assert.equal(code, 0, err);
  return out;
}

async function publicFile(path: string, name: string): Promise<string> {
  const file = join(service.dir, name);
  const response = await fetch(service.urls.public + path);
  assert.equal(response.status, 200, path);
  writeFileSync(file, Buffer.from(await response.arrayBuffer()));
  return file;
}

/** What the ceremony is given: key and certificate of the root, its newest CRL, the issuer's certificate. */
async function ceremonyArguments(out: string, previous?: string): Promise<string[]> {
  const offline = join(service.dataDir, "offline");
  const crl = previous ?? (await publicFile(`/crl/${root.id}.crl`, `${out}.previous.crl`));
  const certificate = await publicFile(`/issuers/${issuers.first}.crt`, "first.crt");
  return [
    "ca",
    "crl",
    `--root-key=${join(offline, "root.key.pem")}`,
    `--root=${join(offline, "root.pem")}`,
    `--previous-crl=${crl}`,
    `--revoke=${certificate}`,
    `--out=${join(service.dir, out)}`,
  ];
}

describe("revocation of an issuer", () => {
  before(async () => {
    service = await startService();
    old = await settled(service, "old");
    held = await settled(service, "held");
    await service.admin("POST", `/v1/certificates/${held.answer.serial}/revocation`, { reason: "certificateHold" });
    issuers = await addSecondIssuer(service);
    const row = service.server.authority.issuers.rows.find(({ kind }) => kind === "root");
    root = row ?? assert.fail();
    passphraseFile = join(service.dir, "root-passphrase");
    writeFileSync(passphraseFile, `${rootPassphrase}\n`, { mode: 0o600 });
    // The operator gets a leaf of the issuer that stays.
    const files = join(service.dataDir, "operators", operatorId);
    const key = await readFile(join(files, "key.pem"), "utf8");
    const chain = await readFile(join(files, "chain.pem"), "utf8");
    const fresh = await newKey();
    const { requestJson } = await import("@newleaf/shared/http-client");
    const { body } = await requestJson({
      url: `${service.urls.agents}/v1/renewals`,
      method: "POST",
      body: { csr: csrFor(fresh) },
      tls: { ca: service.roots, key, cert: chain },
      timeoutMs: 10_000,
      maxBytes: 100_000,
    });
    const answer = body as Host["answer"];
    const moved = join(service.dir, "operator");
    mkdirSync(moved);
    const own = credentials({ key: fresh, answer });
    writeFileSync(join(moved, "key.pem"), own.key, { mode: 0o600 });
    writeFileSync(join(moved, "chain.pem"), own.cert);
    asOperator = ["--as", moved];
  });
  after(() => service[Symbol.asyncDispose]());

  let asOperator: string[] = [];
  const ca = (...argv: string[]) => must(...argv, ...asOperator);

  it("tells in a dry run what it would do, and does nothing", async () => {
    const dry = JSON.parse(
      await ca("cert", "revoke", "--issuer", issuers.first, "--reason", "cACompromise", "--dry-run", "--json"),
    ) as { total: number; revoked: { serial: string }[]; issuer: { otherIssuers: number; next: string } };
    const serials = dry.revoked.map(({ serial }) => serial);
    assert.ok(serials.includes(old.answer.serial) && serials.includes(held.answer.serial));
    assert.equal(dry.total, serials.length);
    assert.equal(dry.issuer.otherIssuers, 1);
    assert.match(dry.issuer.next, /^newleaf ca crl /);
    assert.equal((await use(service, old)).status, 200);
  });

  it("refuses what cannot be: a root, a hold, an unknown issuer, an operator who is no admin", async () => {
    const revoke = (issuer: string, reason: string) =>
      command("cert", "revoke", "--issuer", issuer, "--reason", reason, "--yes", ...asOperator);
    assert.match((await revoke(root.id, "cACompromise")).err, /is a root.*\(conflict\)/);
    assert.match((await revoke(issuers.first, "certificateHold")).err, /\(reason-invalid\)/);
    assert.match((await revoke("0000000000000000", "cACompromise")).err, /\(not-found\)/);
    const { authority } = service.server;
    const operator: Caller = { ...systemCaller("test"), actorKind: "operator", actor: "ops", role: "operator" };
    const refused = { code: "not-permitted" };
    await assert.rejects(revokeIssuer(authority, operator, issuers.first, "cACompromise"), refused);
    await assert.rejects(importCrl(authority, operator, root.id, Buffer.alloc(0)), refused);
  });

  it("issues from the other from then on, and accepts no leaf of this one", async () => {
    const serialOf = async (host: Host) =>
      service.admin<{ state: string; reason: string }>("GET", `/v1/certificates/${host.answer.serial}`);
    const said = await ca("cert", "revoke", "--issuer", issuers.first, "--reason", "cACompromise", "--yes");
    assert.match(said, /newleaf ca crl --root-key/);
    await assert.rejects(use(service, old), { code: "certificate-not-trusted" });
    await assert.rejects(renew(service, old), { code: "certificate-not-trusted" });
    await assert.rejects(serialOf(old), { code: "certificate-not-trusted" }, "the test's own operator too");
    const shown = JSON.parse(await ca("cert", "show", old.answer.serial, "--json")) as Record<string, unknown>;
    assert.deepEqual([shown["state"], shown["reason"]], ["revoked", "unspecified"]);
    const final = JSON.parse(await ca("cert", "show", held.answer.serial, "--json")) as Record<string, unknown>;
    assert.equal(final["state"], "revoked", "a hold became final");
    const crl = readCrl(await readFile(await publicFile(`/crl/${issuers.first}.crl`, "first.crl")));
    assert.ok([old, held].every(({ answer }) => crl.revoked.some(({ serial }) => serial === answer.serial)));
  });

  it("changes nothing when it is asked again, and refuses another reason", async () => {
    const again = await ca("cert", "revoke", "--issuer", issuers.first, "--reason", "cACompromise", "--yes", "--json");
    assert.equal((JSON.parse(again) as { total: number }).total, 0);
    const other = await command(
      "cert",
      "revoke",
      "--issuer",
      issuers.first,
      "--reason",
      "superseded",
      "--yes",
      ...asOperator,
    );
    assert.match(other.err, /\(already-revoked\)/);
  });

  it("status says what is open until the root's CRL lists it", async () => {
    assert.match(await ca("status"), new RegExp(`${issuers.first}.*newleaf ca crl`));
  });

  it("the ceremony's CRL is openssl's, and comes into force here", { skip: needs("openssl") }, async () => {
    const next = join(service.dir, "next.crl");
    const argv = await ceremonyArguments("next.crl");
    assert.equal((await newleaf(argv)).code, 2, "nobody to ask for the passphrase");
    const said = await newleaf([...argv, "--passphrase-file", passphraseFile, "--yes"]);
    assert.equal(said.code, 0, said.err);
    using ssl = openSsl();
    const [der] = pemDecode(await readFile(next, "utf8"), "X509 CRL");
    assert.ok(der);
    const crl = readCrl(der);
    assert.equal(crl.number, 2);
    assert.deepEqual(
      crl.revoked.map(({ reason }) => reason),
      ["cACompromise"],
    );
    const rootFile = join(service.dataDir, "offline", "root.pem");
    assert.match(ssl.run(["crl", "-in", next, "-CAfile", rootFile, "-noout", "-text"]), /CA Compromise/);

    const imported = await ca("ca", "import", next, "--yes");
    assert.match(imported, new RegExp(`CRL 2 of ${root.id} is in force. It revokes ${issuers.first}`));
    const served = readCrl(await readFile(await publicFile(`/crl/${root.id}.crl`, "served.crl")));
    assert.equal(served.number, 2);
    assert.doesNotMatch(await ca("status"), /newleaf ca crl/);
    assert.match(await ca("ca", "import", next, "--yes"), /CRL 2/, "the same again changes nothing");

    const certificate = ssl.pem("first.pem", "CERTIFICATE", await readFile(join(service.dir, "first.crt")));
    const verdict = ssl.ask(["verify", "-crl_check", "-CAfile", rootFile, "-CRLfile", next, certificate]);
    assert.deepEqual([verdict.ok, /certificate revoked/.test(verdict.output)], [false, true], verdict.output);
  });

  it("import refuses what is older, drops somebody, is another's or of another key", async () => {
    const previous = join(service.dir, "next.crl.previous.crl");
    const refused = async (file: string): Promise<string> => {
      const { code, err } = await command("ca", "import", file, "--yes", ...asOperator);
      assert.equal(code, 1);
      return err;
    };
    assert.match(await refused(previous), /not newer than 2.*\(conflict\)/);
    const letter = join(service.dir, "letter.txt");
    writeFileSync(letter, "Dear Kim");
    const noList = await command("ca", "import", letter, "--yes", ...asOperator);
    assert.deepEqual([noList.code, /letter\.txt holds no X509 CRL block/.test(noList.err)], [2, true], noList.err);
    assert.match(await refused(join(service.dir, "first.crl")), /is not of issuer.*\(conflict\)/);
    const { buildCrl } = await import("../../server/ca/crl.ts");
    const { openIssuer } = await import("../../server/ca/issuer.ts");
    const { decryptPrivateKey } = await import("../../server/keys/private-key.ts");
    const offline = join(service.dataDir, "offline");
    const rootKey = decryptPrivateKey(await readFile(join(offline, "root.key.pem"), "utf8"), rootPassphrase);
    const [certificate] = pemDecode(await readFile(join(offline, "root.pem"), "utf8"), "CERTIFICATE");
    const issuer = openIssuer(certificate ?? assert.fail(), rootKey);
    const now = Date.now();
    const times = { thisUpdate: now, nextUpdate: now + 86_400_000 };
    const write = (name: string, der: Buffer): string => {
      const file = join(service.dir, name);
      writeFileSync(file, pemEncode("X509 CRL", der));
      return file;
    };
    const empty = write("empty.crl", buildCrl({ issuer, number: 3, ...times, revoked: [] }));
    assert.match(await refused(empty), /does not list [0-9a-f]+.*\(conflict\)/);
    const early = { thisUpdate: now + 600_000, nextUpdate: now + 86_400_000 };
    assert.match(
      await refused(write("early.crl", buildCrl({ issuer, number: 3, ...early, revoked: [] }))),
      /is to come.*\(conflict\)/,
    );
    const forged = buildCrl({ issuer, number: 3, ...times, revoked: [] });
    forged.set([forged.at(-1) === 0 ? 1 : 0], forged.length - 1);
    assert.match(await refused(write("forged.crl", forged)), /signature is another's.*\(conflict\)/);
  });

  it("a ceremony refuses what does not belong together", async () => {
    const run = async (argv: string[]) => newleaf([...argv, "--passphrase-file", passphraseFile, "--yes"]);
    const twice = await run(await ceremonyArguments("twice.crl", join(service.dir, "next.crl")));
    assert.match(twice.err, /on the previous CRL already.*\(conflict\)/);
    const foreign = await run(await ceremonyArguments("foreign.crl", join(service.dir, "first.crl")));
    assert.match(foreign.err, /is not of issuer.*\(conflict\)/);
  });
});

describe("revocation of the only issuer", () => {
  it("what a crash left of its leaves is revoked after the next start", async () => {
    await using cut = await startService();
    const { answer } = await settled(cut, "left-over");
    const [row] = cut.server.authority.issuers.rows.filter(({ kind }) => kind === "intermediate");
    const issuerId = row?.id ?? assert.fail();
    // As far as it got: the issuer, and none of its leaves.
    await cut.server.authority.store.revokeIssuer({ issuerId, reason: "cACompromise", at: Date.now(), audit: [] });
    await cut.restart();
    const { authority } = cut.server;
    await finishRevokedIssuers(authority, systemCaller("test"));
    assert.equal((await authority.store.findCertificate(answer.serial))?.state, "revoked");
    const listing = await authority.store.findListing(issuerId, answer.serial);
    assert.equal(listing, authority.issuers.crls.get(issuerId)?.number);
    await finishRevokedIssuers(authority, systemCaller("test"));
    assert.equal(authority.issuers.crls.get(issuerId)?.number, listing, "once");
  });

  it("leaves CRLs served after a restart, and a ceremony's CRL is imported without the service", async () => {
    await using only = await startService();
    const [issuer] = only.server.authority.issuers.rows.filter(({ kind }) => kind === "intermediate");
    const host = await settled(only, "orphan");
    const id = issuer?.id ?? assert.fail();
    const answer = await only.admin<{ issuer: { otherIssuers: number } }>("POST", "/v1/revocations", {
      issuer: id,
      reason: "cACompromise",
    });
    assert.equal(answer.issuer.otherIssuers, 0);
    await only.restart();
    assert.equal(only.urls.admin, "");
    const crl = readCrl(Buffer.from(await (await fetch(`${only.urls.public}/crl/${id}.crl`)).arrayBuffer()));
    assert.ok(crl.revoked.some(({ serial }) => serial === host.answer.serial));

    const rootRow = only.server.authority.issuers.rows.find(({ kind }) => kind === "root") ?? assert.fail();
    const file = async (path: string, name: string): Promise<string> => {
      writeFileSync(join(only.dir, name), Buffer.from(await (await fetch(only.urls.public + path)).arrayBuffer()));
      return join(only.dir, name);
    };
    const previous = await file(`/crl/${rootRow.id}.crl`, "previous.crl");
    const certificate = await file(`/issuers/${id}.crt`, "issuer.crt");
    const secret = join(only.dir, "root-passphrase");
    writeFileSync(secret, rootPassphrase, { mode: 0o600 });
    const next = join(only.dir, "next.crl");
    const offline = join(only.dataDir, "offline");
    const made = await newleaf([
      "ca",
      "crl",
      "--yes",
      `--root-key=${join(offline, "root.key.pem")}`,
      `--root=${join(offline, "root.pem")}`,
      `--previous-crl=${previous}`,
      `--revoke=${certificate}`,
      `--out=${next}`,
      `--passphrase-file=${secret}`,
    ]);
    assert.equal(made.code, 0, made.err);
    const argv = ["ca", "import", next, "--offline", "--yes", "--data", only.dataDir];
    assert.match((await newleaf(argv)).err, /Another process has the database/);
    await only.server[Symbol.asyncDispose]();
    const imported = await newleaf(argv);
    assert.match(imported.out, new RegExp(`It revokes ${id}`), imported.err);
    await only.restart();
    const served = readCrl(Buffer.from(await (await fetch(`${only.urls.public}/crl/${rootRow.id}.crl`)).arrayBuffer()));
    assert.equal(served.number, 2);
  });
});
