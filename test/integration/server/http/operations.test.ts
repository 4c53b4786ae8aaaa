/** Every operation of the admin API succeeds once, and what it answers is what its document says. */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { after, before, describe, it } from "node:test";
import { systemCaller } from "../../../../server/authority/authority.ts";
import { noteUnvouched } from "../../../../server/authority/unvouched.ts";
import { call, csrFor, enrolled, newKey, renew, settled, use } from "../../../support/agent-client.ts";
import {
  type AdminAnswer,
  type AdminRequest,
  firstOperator,
  type OperatorClient,
} from "../../../support/admin-clients.ts";
import { issueLeaf } from "../../../support/engine-ca.ts";
import { type Judge, openApiJudge } from "../../../support/openapi-judge.ts";
import { startService, type TestService } from "../../../support/service.ts";

let service: TestService;
let admin: OperatorClient;
let judge: Judge;

interface Example {
  readonly path: string;
  readonly body?: unknown;
}

/** Prepares what the operation is about. */
type MakeExample = () => Promise<Example> | Example;

const serialOf = async (identity: string): Promise<string> => (await settled(service, identity)).answer.serial;
const lineageOf = async (identity: string): Promise<string> => (await settled(service, identity)).answer.lineage;

const reading: Readonly<Record<string, MakeExample>> = {
  listIdentities: () => ({ path: "/v1/identities?sort=-lastSeen&state=active" }),
  getIdentity: () => ({ path: "/v1/identities/web" }),
  listTokens: () => ({ path: "/v1/tokens?identity=web" }),
  listApprovals: () => ({ path: "/v1/approvals" }),
  getApproval: async () => ({ path: `/v1/approvals/${(await waiting()).id}` }),
  listOperators: () => ({ path: "/v1/operators" }),
  getOperator: () => ({ path: "/v1/operators/admin@operators" }),
  listCertificates: () => ({ path: "/v1/certificates?sort=serial&q=we" }),
  getCertificate: async () => ({ path: `/v1/certificates/${await serialOf("seen")}` }),
  listUnvouched: async () => {
    await unvouched("listed");
    return { path: "/v1/unvouched?state=open" };
  },
  readConfirmations: () => ({ path: `/v1/crls/${issuerOf("intermediate")}/confirmations?number=1` }),
  listLineages: () => ({ path: "/v1/lineages?state=active" }),
  getLineage: async () => ({ path: `/v1/lineages/${await lineageOf("story")}` }),
  listPauses: () => ({ path: "/v1/pauses" }),
  listIssuers: () => ({ path: "/v1/issuers" }),
  listAudit: () => ({ path: "/v1/audit?limit=1000" }),
  readAuditChain: () => ({ path: "/v1/audit/chain" }),
  readAuditCheckpoints: () => ({ path: "/v1/audit/checkpoints" }),
  listBackups: () => ({ path: "/v1/backups" }),
  getStatus: () => ({ path: "/v1/status" }),
  getOpenApi: () => ({ path: "/openapi.json" }),
};

const changing: Readonly<Record<string, MakeExample>> = {
  addIdentity: () => ({
    path: "/v1/identities",
    body: { id: "added", profile: "gateway", names: { dns: ["a.claw.internal"] }, labels: { site: "lab" } },
  }),
  changeIdentity: () => ({ path: "/v1/identities/added", body: { labels: { site: "elsewhere" } } }),
  removeIdentity: () => ({ path: "/v1/identities/added" }),
  suspendIdentity: () => ({ path: "/v1/identities/web/suspension" }),
  resumeIdentity: () => ({ path: "/v1/identities/web/suspension" }),
  grantRecovery: () => ({ path: "/v1/identities/web/recovery-grants", body: { ttl: "1h" } }),
  planInventory: () => ({ path: "/v1/inventory/plan", body: { identities: [{ id: "planned", profile: "agent" }] } }),
  applyInventory: () => ({ path: "/v1/inventory/apply", body: { identities: [{ id: "planned", profile: "agent" }] } }),
  createToken: () => ({ path: "/v1/tokens", body: { identity: "web" } }),
  revokeToken: async () => {
    const { id } = await service.admin<{ id: string }>("POST", "/v1/tokens", { identity: "web" });
    return { path: `/v1/tokens/${id}` };
  },
  decideApproval: async () => {
    const { id, fingerprint } = await waiting();
    return { path: `/v1/approvals/${id}/decision`, body: { decision: "approve", identity: "planned", fingerprint } };
  },
  addOperator: () => ({ path: "/v1/operators", body: { id: "ann@operators", role: "viewer" } }),
  setOperatorRole: () => ({ path: "/v1/operators/ann@operators", body: { role: "approver" } }),
  removeOperator: () => ({ path: "/v1/operators/ann@operators" }),
  revokeCertificate: async () => ({
    path: `/v1/certificates/${await serialOf("ended")}/revocation`,
    body: { reason: "superseded" },
  }),
  releaseCertificate: async () => {
    const serial = await serialOf("held");
    await service.admin("POST", "/v1/revocations", { serial, reason: "certificateHold" });
    return { path: `/v1/certificates/${serial}/revocation` };
  },
  revoke: async () => {
    await settled(service, "compromised");
    return { path: "/v1/revocations", body: { identity: "compromised", reason: "keyCompromise" } };
  },
  adoptUnvouched: async () => ({ path: `/v1/unvouched/${await unvouched("adopted")}/adoption` }),
  revokeUnvouched: async () => ({ path: `/v1/unvouched/${await unvouched("stranger")}/revocation`, body: {} }),
  importCrl: async () => {
    const root = issuerOf("root");
    const crl = await fetch(`${service.urls.public}/crl/${root}.crl`);
    return { path: `/v1/issuers/${root}/crl`, body: { crl: Buffer.from(await crl.arrayBuffer()).toString("base64") } };
  },
  releaseLineage: async () => {
    const stale = await settled(service, "locked");
    await use(service, await renew(service, stale));
    await assert.rejects(renew(service, stale), { code: "lineage-locked" });
    return { path: `/v1/lineages/${stale.answer.lineage}/release` };
  },
  liftPauses: async () => {
    await paused("web");
    return { path: "/v1/pauses/web" };
  },
  publishCrl: () => ({ path: `/v1/crls/${issuerOf("intermediate")}/publication` }),
  createBackup: () => ({ path: "/v1/backups", body: {} }),
};

describe("every operation of the admin API", () => {
  before(async () => {
    service = await startService();
    admin = await firstOperator(service);
    judge = openApiJudge((await admin.send({ method: "GET", path: "/openapi.json" })).json);
    await settled(service, "web", { dns: ["web.claw.internal"] });
    await paused("web");
  });
  after(async () => {
    admin[Symbol.dispose]();
    await service[Symbol.asyncDispose]();
  });

  it("has an example here", () => {
    const ids = judge.operations.map(({ id }) => id).toSorted();
    assert.deepEqual([...Object.keys(changing), ...Object.keys(reading)].toSorted(), ids);
  });

  for (const [id, example] of [...Object.entries(changing), ...Object.entries(reading)]) {
    it(`answers ${id} as its document says`, async () => {
      const { path, body } = await example();
      const operation = judge.operations.find((declared) => declared.id === id);
      assert.ok(operation !== undefined);
      const request = { method: operation.method, path, ...(body === undefined ? {} : { body }) };
      const answer = await admin.send(request);
      assert.ok(answer.status < 300, `${answer.status} ${answer.text}`);
      assert.equal(judge.judge(operation, answer), null);
      if (Array.isArray((answer.json as { items?: unknown } | undefined)?.items)) await asCsv(request, answer);
    });
  }

  /** The same rows. */
  async function asCsv(request: AdminRequest, { json }: AdminAnswer): Promise<void> {
    const answer = await admin.send({ ...request, headers: { accept: "text/csv" } });
    assert.equal(answer.headers["content-type"], "text/csv; charset=utf-8; header=present");
    const { items } = json as { readonly items: readonly { readonly id?: string; readonly serial?: string }[] };
    assert.match(answer.text, /^[a-zA-Z.,]+\r\n/);
    for (const { id, serial } of items) assert.ok(answer.text.includes(id ?? serial ?? ""), `${id ?? serial}`);
  }
});

function issuerOf(kind: "root" | "intermediate"): string {
  return service.server.authority.issuers.rows.find((row) => row.kind === kind)?.id ?? "";
}

async function waiting(): Promise<{ readonly id: string; readonly fingerprint: string }> {
  const body = { csr: csrFor(await newKey()), claim: "a new host" };
  const answer = await call(service, "enrollment", "POST", "/v1/enrollments", { body });
  return answer.body as { id: string; fingerprint: string };
}

/** A leaf of our issuer that the store has lost. */
async function unvouched(identity: string): Promise<string> {
  const { authority } = service.server;
  await service.token(identity);
  const issuer = authority.issuers.signers.get(issuerOf("intermediate"));
  assert.ok(issuer !== undefined);
  const key = await newKey();
  const now = authority.clock.now();
  const { der, prepared } = await issueLeaf(
    { root: issuer, issuer, rootKey: key, issuerKey: key, now },
    { identity, key },
  );
  const leaf = { certificate: new X509Certificate(der), serial: prepared.serial };
  await noteUnvouched(authority, systemCaller("test"), leaf, issuerOf("intermediate"));
  return prepared.serial;
}

async function paused(identity: string): Promise<void> {
  const { store, clock } = service.server.authority;
  const since = clock.now();
  const pause = { subject: `renewal ${identity}`, identity, serial: (await enrolled(service, identity)).answer.serial };
  const why = { key: null, code: "lineage-locked" as const, reason: "Two holders", basis: "current locked" };
  await store.recordPause({ ...pause, ...why, since, until: since + 60_000, refusals: 50, address: "192.0.2.7" }, []);
}
