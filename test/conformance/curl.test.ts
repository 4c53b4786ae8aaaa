/** With only curl and openssl, no agent: what any script may rely on. Each refusal is a problem+json with its code, audited, and issues nothing. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { curl, keep, makeRequest, openssl, requestWith, type CurlAnswer, type Holder } from "../support/curl.ts";
import { needs } from "../support/programs.ts";
import { startService, type TestService } from "../support/service.ts";

let service: TestService;

async function enroll(identity: string, names: { dns?: string[] } = {}): Promise<Holder> {
  const token = await service.token(identity, names);
  const { keyFile, csr } = await makeRequest(service.dir, { subject: `/CN=${identity}` });
  const answer = await post("enrollment", "/v1/enrollments", { csr, token });
  assert.equal(answer.status, 201, answer.text);
  return keep(service.dir, keyFile, answer.body);
}

/** Enrolled and used once: its leaf is current. */
async function current(identity: string, names: { dns?: string[] } = {}): Promise<Holder> {
  const holder = await enroll(identity, names);
  const window = await get("/v1/renewal-window", holder);
  assert.equal(window.status, 200, window.text);
  return holder;
}

function post(listener: "agents" | "enrollment", path: string, json: unknown, holder?: Holder): Promise<CurlAnswer> {
  return curl({ url: service.urls[listener] + path, rootsFile: service.rootsFile, json, ...clientOf(holder) });
}

function get(path: string, holder?: Holder): Promise<CurlAnswer> {
  return curl({ url: service.urls.agents + path, rootsFile: service.rootsFile, ...clientOf(holder) });
}

function clientOf(holder: Holder | undefined): { cert?: string; key?: string } {
  return holder === undefined ? {} : { cert: holder.chainFile, key: holder.keyFile };
}

const renewWith = (holder: Holder, csr: string): Promise<CurlAnswer> => post("agents", "/v1/renewals", { csr }, holder);

/** Renews with a new key and keeps the leaf, unused. */
async function renewed(holder: Holder): Promise<Holder> {
  const { keyFile, csr } = await makeRequest(service.dir);
  const answer = await renewWith(holder, csr);
  assert.equal(answer.status, 201, answer.text);
  return keep(service.dir, keyFile, answer.body);
}

async function countCertificates(): Promise<number> {
  const { items } = await service.admin<{ items: unknown[] }>("GET", "/v1/certificates?limit=1000");
  return items.length;
}

/** The answer is this problem, an audit row tells of it, and no certificate came of it. */
async function refused(code: string, status: number, act: () => Promise<CurlAnswer>): Promise<CurlAnswer> {
  const before = await countCertificates();
  const answer = await act();
  assert.equal(answer.status, status, answer.text);
  assert.equal(answer.contentType, "application/problem+json");
  assert.equal(answer.body["code"], code);
  assert.equal(answer.body["status"], status);
  assert.equal(await countCertificates(), before, "something was issued");
  const { items } = await service.admin<{ items: { action: string; detail?: { code?: string } }[] }>(
    "GET",
    "/v1/audit?limit=20",
  );
  const told = items.some(
    ({ action, detail }) => detail?.code === code || (code === "lineage-locked" && action === "lineage.conflict"),
  );
  assert.ok(told, `no audit row tells of ${code}`);
  return answer;
}

const revoke = (target: Record<string, string>): Promise<unknown> => service.admin("POST", "/v1/revocations", target);

describe("curl and openssl against the service", { skip: needs("curl", "openssl") }, () => {
  before(async () => {
    service = await startService({ NEWLEAF_PROFILES_GATEWAY_VALIDITY: "3s", NEWLEAF_PROFILES_GATEWAY_BACKDATE: "1s" });
  });
  after(() => service[Symbol.asyncDispose]());

  it("enrolls with a token, and the leaf passes openssl verify", async () => {
    const holder = await enroll("agent-enroll", { dns: ["enroll.claw.internal"] });
    const chain = join(service.dir, "intermediate.pem");
    await writeFile(chain, String(holder.answer["chain"]));
    const out = await openssl(
      "verify",
      "-x509_strict",
      "-purpose",
      "sslclient",
      "-CAfile",
      service.rootsFile,
      "-untrusted",
      chain,
      holder.chainFile,
    );
    assert.match(out, /OK/);
    assert.match(holder.serial, /^[0-9a-f]{32}$/);
    assert.equal(holder.answer["identity"], "agent-enroll");
    assert.equal(holder.answer["generation"], 1);
  });

  it("answers the same token and key again with the same leaf, and another key with token-invalid", async () => {
    const token = await service.token("agent-replay");
    const { keyFile, csr } = await makeRequest(service.dir);
    const first = await post("enrollment", "/v1/enrollments", { csr, token });
    const again = await post("enrollment", "/v1/enrollments", { csr, token });
    assert.deepEqual([first.status, again.status], [201, 201]);
    assert.equal(again.body["serial"], first.body["serial"]);
    const other = await makeRequest(service.dir);
    await refused("token-invalid", 403, () => post("enrollment", "/v1/enrollments", { csr: other.csr, token }));
    const holder = await keep(service.dir, keyFile, first.body);
    assert.equal((await get("/v1/renewal-window", holder)).status, 200);
    await refused("token-invalid", 403, () => post("enrollment", "/v1/enrollments", { csr, token }));
  });

  it("renews, answers the replayed request with the same serial, and gives PEM to who asks for it", async () => {
    const holder = await current("agent-renew");
    const { csr } = await makeRequest(service.dir);
    const first = await renewWith(holder, csr);
    assert.equal(first.status, 201, first.text);
    assert.equal(first.body["generation"], 2);
    const again = await renewWith(holder, csr);
    assert.equal(again.status, 200);
    assert.equal(again.body["serial"], first.body["serial"]);
    const pem = await curl({
      url: `${service.urls.agents}/v1/renewals`,
      rootsFile: service.rootsFile,
      json: { csr },
      headers: ["Accept: application/pem-certificate-chain"],
      ...clientOf(holder),
    });
    assert.equal(pem.contentType, "application/pem-certificate-chain");
    assert.equal(pem.text.match(/BEGIN CERTIFICATE/g)?.length, 2);
  });

  it("replaces a pending leaf when another key asks, and the CRL lists the replaced one at once", async () => {
    const holder = await current("agent-replace");
    const unused = await renewed(holder);
    const next = await renewed(holder);
    assert.notEqual(next.serial, unused.serial);
    const text = await crlText();
    assert.match(text, new RegExp(`Serial Number: ${unused.serial.toUpperCase()}`));
    assert.doesNotMatch(text, new RegExp(next.serial.toUpperCase()));
    await refused("lineage-locked", 409, () => get("/v1/renewal-window", unused));
  });

  it("refuses a request without a client certificate with client-certificate-required", async () => {
    await refused("client-certificate-required", 401, () => get("/v1/renewal-window"));
  });

  it("refuses a renewal with a revoked leaf with certificate-revoked", async () => {
    const holder = await current("agent-revoked");
    const { csr } = await makeRequest(service.dir);
    await revoke({ serial: holder.serial, reason: "cessationOfOperation" });
    await refused("certificate-revoked", 403, () => renewWith(holder, csr));
    assert.match(await crlText(), new RegExp(holder.serial.toUpperCase()));
  });

  it("refuses a renewal with an expired leaf with certificate-expired", async () => {
    await service.admin("POST", "/v1/identities", {
      id: "gateway-expired",
      profile: "gateway",
      names: { dns: ["x.claw.internal"] },
    });
    const holder = await enroll("gateway-expired");
    const { csr } = await makeRequest(service.dir);
    await sleep(3_500);
    await refused("certificate-expired", 403, () => renewWith(holder, csr));
  });

  it("refuses a leaf of another CA with certificate-not-trusted", async () => {
    const other = join(service.dir, "other");
    await openssl(
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-keyout",
      `${other}.key.pem`,
      "-out",
      `${other}.pem`,
      "-days",
      "1",
      "-subj",
      "/CN=agent-renew",
    );
    const holder: Holder = { keyFile: `${other}.key.pem`, chainFile: `${other}.pem`, serial: "", answer: {} };
    const { csr } = await makeRequest(service.dir);
    await refused("certificate-not-trusted", 403, () => renewWith(holder, csr));
  });

  it("refuses a self-made leaf of our own issuer that is not in the store with certificate-unknown", async () => {
    const holder = await forgedLeaf();
    const { csr } = await makeRequest(service.dir);
    await refused("certificate-unknown", 403, () => renewWith(holder, csr));
  });

  it("refuses another identity's name with names-not-permitted", async () => {
    const holder = await current("agent-names", { dns: ["names.claw.internal"] });
    await current("agent-victim", { dns: ["victim.claw.internal"] });
    const byName = await makeRequest(service.dir, { san: "DNS:victim.claw.internal" });
    await refused("names-not-permitted", 403, () => renewWith(holder, byName.csr));
    const bySubject = await makeRequest(service.dir, { subject: "/CN=agent-victim" });
    await refused("names-not-permitted", 403, () => renewWith(holder, bySubject.csr));
  });

  it("refuses a key that belongs to another identity with key-in-use", async () => {
    const holder = await current("agent-key-a");
    const other = await current("agent-key-b");
    const csr = await requestWith(service.dir, other.keyFile);
    await refused("key-in-use", 409, () => renewWith(holder, csr));
  });

  it("refuses the key of the presented leaf with key-reused", async () => {
    const holder = await current("agent-reuse");
    const csr = await requestWith(service.dir, holder.keyFile);
    await refused("key-reused", 409, () => renewWith(holder, csr));
  });

  it("refuses RSA-1024 with key-not-acceptable", async () => {
    const holder = await current("agent-weak");
    const { csr } = await makeRequest(service.dir, { algorithm: ["rsa:1024"] });
    const answer = await refused("key-not-acceptable", 422, () => renewWith(holder, csr));
    assert.match(String(answer.body["detail"]), /RSA-1024/);
  });

  it("refuses a broken CSR signature with csr-signature-invalid", async () => {
    const holder = await current("agent-signature");
    const { csr } = await makeRequest(service.dir);
    const der = Buffer.from(csr.replaceAll(/-----[^-]+-----|\s/g, ""), "base64");
    der[der.length - 1] = (der.at(-1) ?? 0) ^ 1;
    await refused("csr-signature-invalid", 400, () => renewWith(holder, der.toString("base64")));
  });

  it("refuses 1 MB of garbage with request-too-large, and garbage for a CSR with csr-malformed", async () => {
    const holder = await current("agent-garbage");
    const file = join(service.dir, "garbage.bin");
    await writeFile(file, randomBytes(1_000_000));
    await refused("request-too-large", 413, () =>
      curl({
        url: `${service.urls.agents}/v1/renewals`,
        rootsFile: service.rootsFile,
        rawFile: file,
        ...clientOf(holder),
      }),
    );
    await refused("csr-malformed", 400, () => renewWith(holder, randomBytes(300).toString("base64")));
  });

  it("locks the lineage when a stale generation renews with a key of its own, and a lost answer does not", async () => {
    const first = await current("agent-stale");
    const second = await renewed(first);
    assert.equal((await get("/v1/renewal-window", second)).status, 200);

    const repeated = await renewWith(first, await requestWith(service.dir, second.keyFile));
    assert.equal(repeated.status, 200, repeated.text);
    assert.equal(repeated.body["serial"], second.serial);

    const stolen = await makeRequest(service.dir);
    await refused("lineage-locked", 409, () => renewWith(first, stolen.csr));
    const honest = await makeRequest(service.dir);
    await refused("lineage-locked", 409, () => renewWith(second, honest.csr));
    assert.equal((await get("/v1/renewal-window", second)).status, 200, "other routes still answer the current leaf");

    const lineage = String(second.answer["lineage"]);
    await service.admin("POST", `/v1/lineages/${lineage}/release`);
    assert.equal((await renewWith(second, honest.csr)).status, 201);
  });

  it("judges the conflict before the gate refuses a superseded leaf that was revoked as superseded", async () => {
    const first = await current("agent-stale-revoked");
    const second = await renewed(first);
    assert.equal((await get("/v1/renewal-window", second)).status, 200);
    await revoke({ serial: first.serial, reason: "superseded" });
    const { csr } = await makeRequest(service.dir);
    await refused("lineage-locked", 409, () => renewWith(first, csr));
  });

  it("refuses an agent's leaf on the admin listener with not-permitted", async () => {
    const holder = await current("agent-admin");
    const answer = await curl({
      url: `${service.urls.admin}/v1/identities`,
      rootsFile: service.rootsFile,
      ...clientOf(holder),
    });
    assert.equal(answer.status, 403);
    assert.equal(answer.body["code"], "not-permitted");
  });

  it("waits for an operator's decision and then hands the leaf to whoever polls", async () => {
    await service.admin("POST", "/v1/identities", { id: "agent-approved", profile: "agent" });
    const { csr } = await makeRequest(service.dir);
    const waiting = await post("enrollment", "/v1/enrollments", { csr, claim: "the new printer" });
    assert.equal(waiting.status, 202);
    const again = await post("enrollment", "/v1/enrollments", { csr });
    assert.equal(again.body["id"], waiting.body["id"]);
    const { id, fingerprint, poll } = waiting.body as { id: string; fingerprint: string; poll: string };
    const wrong = { decision: "approve", identity: "agent-approved", fingerprint: `sha256:${"0".repeat(64)}` };
    await assert.rejects(service.admin("POST", `/v1/approvals/${id}/decision`, wrong), { code: "conflict" });
    await service.admin("POST", `/v1/approvals/${id}/decision`, { ...wrong, fingerprint });
    const granted = await curl({ url: service.urls.enrollment + poll, rootsFile: service.rootsFile });
    assert.equal(granted.status, 200);
    assert.equal(granted.body["identity"], "agent-approved");
  });

  it("refuses a denied request with enrollment-denied", async () => {
    const { csr } = await makeRequest(service.dir);
    const waiting = await post("enrollment", "/v1/enrollments", { csr });
    const { id, fingerprint, poll } = waiting.body as { id: string; fingerprint: string; poll: string };
    await service.admin("POST", `/v1/approvals/${id}/decision`, { decision: "deny", fingerprint });
    const denied = await curl({ url: service.urls.enrollment + poll, rootsFile: service.rootsFile });
    assert.equal(denied.body["code"], "enrollment-denied");
    await refused("enrollment-denied", 403, () => post("enrollment", "/v1/enrollments", { csr }));
  });

  it("admits an approved fingerprint once", async () => {
    const { keyFile, csr } = await makeRequest(service.dir);
    const der = await openssl("pkey", "-in", keyFile, "-pubout", "-outform", "DER", "-out", `${keyFile}.spki`).then(
      () => `${keyFile}.spki`,
    );
    const hash = (await openssl("dgst", "-sha256", "-r", der)).slice(0, 64);
    await service.admin("POST", "/v1/identities", {
      id: "agent-fingerprint",
      profile: "agent",
      keys: [`sha256:${hash}`],
    });
    const first = await post("enrollment", "/v1/enrollments", { csr });
    assert.equal(first.status, 201, first.text);
    const holder = await keep(service.dir, keyFile, first.body);
    assert.equal((await get("/v1/renewal-window", holder)).status, 200);
    await refused("enrollment-denied", 403, () => post("enrollment", "/v1/enrollments", { csr }));
  });
});

async function crlText(): Promise<string> {
  const { crls } = (await curl({ url: `${service.urls.public}/v1/bundle`, rootsFile: service.rootsFile })).body as {
    crls: { url: string }[];
  };
  const path = new URL(crls.at(-1)?.url ?? "").pathname;
  const file = join(service.dir, "issuer.crl");
  const response = await fetch(service.urls.public + path);
  await writeFile(file, Buffer.from(await response.arrayBuffer()));
  return openssl("crl", "-inform", "DER", "-in", file, "-noout", "-text");
}

/** Signed with the stolen issuing key, never recorded. */
async function forgedLeaf(): Promise<Holder> {
  const issuers = join(service.dataDir, "issuers");
  const [keyName = ""] = await readdir(issuers);
  const base = join(service.dir, "forged");
  const bundle = (await curl({ url: `${service.urls.public}/v1/bundle`, rootsFile: service.rootsFile })).body as {
    issuers: { certificate: string }[];
  };
  await writeFile(`${base}.ca.pem`, bundle.issuers[0]?.certificate ?? "");
  await writeFile(
    `${base}.ext`,
    "extendedKeyUsage=clientAuth\nkeyUsage=critical,digitalSignature\nauthorityKeyIdentifier=keyid\n",
  );
  await openssl(
    "req",
    "-new",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
    "-keyout",
    `${base}.key.pem`,
    "-out",
    `${base}.csr.pem`,
    "-subj",
    "/CN=agent-renew",
  );
  await openssl(
    "x509",
    "-req",
    "-in",
    `${base}.csr.pem`,
    "-CA",
    `${base}.ca.pem`,
    "-CAkey",
    join(issuers, keyName),
    "-days",
    "1",
    "-extfile",
    `${base}.ext`,
    "-out",
    `${base}.pem`,
  );
  return { keyFile: `${base}.key.pem`, chainFile: `${base}.pem`, serial: "", answer: {} };
}
