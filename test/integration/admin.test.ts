import assert from "node:assert/strict";
import { after, before, describe, it, mock } from "node:test";
import { keyFingerprint } from "@newleaf/shared/fingerprint";
import { requestJson } from "@newleaf/shared/http-client";
import { readFile } from "node:fs/promises";
import { call, csrFor, enrolled, newKey, settled, use } from "../support/agent-client.ts";
import { startServer } from "../../server/app.ts";
import { startService, type TestService } from "../support/service.ts";

let service: TestService;

interface Plan {
  readonly changes: { readonly kind: string; readonly id: string; readonly liveLeaves: number }[];
  readonly warnings: string[];
}

const entry = (id: string, dns: string[] = [], profile = "agent") => ({ id, profile, names: { dns } });

describe("the admin API", () => {
  before(async () => {
    service = await startService();
  });
  after(() => service[Symbol.asyncDispose]());

  it("adds, changes, suspends, resumes and removes an identity", async () => {
    const added = await service.admin<{ id: string; state: string; leaf: null }>(
      "POST",
      "/v1/identities",
      entry("web", ["web.claw.internal"]),
    );
    assert.deepEqual([added.id, added.state, added.leaf], ["web", "active", null]);
    await assert.rejects(service.admin("POST", "/v1/identities", entry("web")), { code: "conflict" });
    const host = await settled(service, "web");
    await service.admin("POST", "/v1/identities/web/suspension");
    await assert.rejects(use(service, host), { code: "identity-suspended" });
    const body = { csr: csrFor(await newKey()), token: "nl1.x" };
    await assert.rejects(call(service, "enrollment", "POST", "/v1/enrollments", { body }), { code: "token-invalid" });
    await service.admin("DELETE", "/v1/identities/web/suspension");
    assert.equal((await use(service, host)).status, 200);
    await service.admin("DELETE", "/v1/identities/web");
    await assert.rejects(use(service, host), { code: "certificate-revoked" });
    await assert.rejects(service.admin("GET", "/v1/identities/web"), { code: "not-found" });
    await service.admin("POST", "/v1/identities", entry("web"));
  });

  it("tells of a fault inside only the id under which its log has it", async () => {
    const broken = mock.method(service.server.authority.store, "findIdentity", () =>
      Promise.reject(new Error("the secret inside")),
    );
    try {
      const refused = service.admin("POST", "/v1/identities", entry("faulty"));
      await assert.rejects(refused, { code: "internal", message: /its log says what, under requestId [0-9a-f-]{36}$/ });
      await assert.rejects(refused, ({ message }: Error) => !message.includes("secret"));
    } finally {
      broken.mock.restore();
    }
    const { items } = await service.admin<{ items: { detail: { reason?: string } }[] }>(
      "GET",
      "/v1/audit?action=request.refused",
    );
    assert.ok(
      items.every(({ detail }) => !/requestId/.test(detail.reason ?? "")),
      "the same fault is the same sight",
    );
  });

  it("plans and applies an inventory, and prunes only what it is told to", async () => {
    const identities = [entry("inv-1", ["one.claw.internal"]), entry("inv-2", ["one.claw.internal"])];
    const plan = await service.admin<Plan>("POST", "/v1/inventory/plan", { identities });
    assert.deepEqual(
      plan.changes.map(({ kind, id }) => `${kind} ${id}`),
      ["add inv-1", "add inv-2"],
    );
    assert.match(plan.warnings.join(), /one\.claw\.internal is shared by inv-1, inv-2/);
    await assert.rejects(service.admin("GET", "/v1/identities/inv-1"), { code: "not-found" });
    await service.admin("POST", "/v1/inventory/apply", { identities });
    const again = await service.admin<Plan>("POST", "/v1/inventory/plan", { identities });
    assert.ok(again.changes.every(({ kind }) => kind === "unchanged"));

    await settled(service, "inv-2");
    const pruned = { identities: [entry("inv-1", ["two.claw.internal"])], prune: true };
    const dry = await service.admin<Plan>("POST", "/v1/inventory/plan", pruned);
    assert.ok(dry.changes.some(({ kind, id, liveLeaves }) => kind === "remove" && id === "inv-2" && liveLeaves === 1));
    assert.ok(
      dry.changes.every(({ id }) => id !== "admin@operators"),
      "operators are never pruned",
    );
    await assert.rejects(service.admin("POST", "/v1/inventory/apply", pruned), { code: "conflict" });
    assert.equal((await service.admin<{ state: string }>("GET", "/v1/identities/inv-2")).state, "active");
    const key = keyFingerprint(await newKey());
    await service.admin("POST", "/v1/identities", { id: "inv-lost-key", profile: "agent", keys: [key] });
    await service.admin("POST", "/v1/revocations", { key, reason: "keyCompromise" });
    const blocked = { ...pruned, identities: [{ ...entry("inv-1", ["two.claw.internal"]), keys: [key] }] };
    for (const path of ["plan", "apply"])
      await assert.rejects(service.admin("POST", `/v1/inventory/${path}`, { ...blocked, revokeLive: true }), {
        code: "key-blocked",
      });
    const { store, clock } = service.server.authority;
    assert.equal((await store.listUsable("inv-2", clock.now())).length, 1, "what is refused revokes nothing");

    await service.admin("POST", "/v1/inventory/apply", { ...pruned, revokeLive: true });
    await assert.rejects(service.admin("GET", "/v1/identities/inv-2"), { code: "not-found" });
  });

  it("applies an inventory whole or not at all", async () => {
    const key = `sha256:${"a".repeat(64)}`;
    const identities = [
      { ...entry("whole-1"), keys: [key] },
      { ...entry("whole-2"), keys: [key] },
    ];
    await assert.rejects(service.admin("POST", "/v1/inventory/apply", { identities }), { code: "key-in-use" });
    await assert.rejects(service.admin("GET", "/v1/identities/whole-1"), { code: "not-found" });
    const bad = { identities: [entry("whole-3"), entry("whole-4", ["not a name"])] };
    await assert.rejects(service.admin("POST", "/v1/inventory/apply", bad), /whole-4/);
    await assert.rejects(service.admin("GET", "/v1/identities/whole-3"), { code: "not-found" });
  });

  it("does not re-arm a spent fingerprint when the same inventory is applied again", async () => {
    const key = await newKey();
    const { keyFingerprint } = await import("@newleaf/shared/fingerprint");
    const identities = [{ ...entry("armed"), keys: [keyFingerprint(key)] }];
    await service.admin("POST", "/v1/inventory/apply", { identities });
    const body = { csr: csrFor(key) };
    const answer = await call(service, "enrollment", "POST", "/v1/enrollments", { body });
    assert.equal(answer.status, 201);
    const { serial } = answer.body as { serial: string };
    await service.admin("POST", "/v1/revocations", { serial, reason: "superseded" });
    await service.admin("POST", "/v1/inventory/apply", { identities });
    assert.equal(
      (await call(service, "enrollment", "POST", "/v1/enrollments", { body })).status,
      202,
      "spent: it waits for an operator",
    );
    await service.admin("PATCH", "/v1/identities/armed", { rearmKeys: true });
    assert.equal((await call(service, "enrollment", "POST", "/v1/enrollments", { body })).status, 201);
  });

  it("guards against requests that another site makes a browser send", async () => {
    const tls = {
      ca: service.roots,
      cert: await readFile(service.operator.chainFile, "utf8"),
      key: await readFile(service.operator.keyFile, "utf8"),
    };
    const send = (headers: Record<string, string>, method: "POST" | "DELETE" = "POST"): Promise<unknown> =>
      requestJson({
        url: `${service.urls.admin}/v1/identities${method === "DELETE" ? "/nobody" : ""}`,
        method,
        headers,
        tls,
        timeoutMs: 5_000,
        maxBytes: 100_000,
        ...(method === "POST" ? { body: entry("csrf") } : {}),
      });
    await assert.rejects(send({}), { code: "not-permitted" });
    await assert.rejects(send({}, "DELETE"), { code: "not-permitted" });
    await assert.rejects(send({ "X-Newleaf-Client": "x", Origin: "https://evil.example" }), { code: "not-permitted" });
    await assert.rejects(send({ "X-Newleaf-Client": "x", "Content-Type": "text/plain" }), {
      code: "media-type-unsupported",
    });
    await assert.rejects(service.admin("GET", "/v1/identities/csrf"), { code: "not-found" });
    await send({ "X-Newleaf-Client": "x", Origin: service.urls.admin });
  });

  it("does not let an operator's identity be made, changed into or tokened as a plain one", async () => {
    await assert.rejects(service.admin("POST", "/v1/identities", entry("boss", [], "operator")), {
      code: "not-permitted",
    });
    await service.admin("POST", "/v1/identities", entry("clerk"));
    await assert.rejects(service.admin("PATCH", "/v1/identities/clerk", { profile: "operator" }), {
      code: "not-permitted",
    });
    await assert.rejects(
      service.admin("POST", "/v1/inventory/apply", { identities: [entry("boss", [], "operator")] }),
      { code: "not-permitted" },
    );
  });

  it("pages lists, filters them, and refuses a bad cursor", async () => {
    const identities = Array.from({ length: 25 }, (_, index) => entry(`page-${String(index).padStart(2, "0")}`));
    await service.admin("POST", "/v1/inventory/apply", { identities });
    const seen: string[] = [];
    let cursor: string | null = null;
    do {
      const page: { items: { id: string }[]; nextCursor: string | null } = await service.admin(
        "GET",
        `/v1/identities?q=page-&limit=10${cursor === null ? "" : `&cursor=${cursor}`}`,
      );
      seen.push(...page.items.map(({ id }) => id));
      cursor = page.nextCursor;
    } while (cursor !== null);
    assert.deepEqual(
      seen.toSorted(),
      identities.map(({ id }) => id),
    );
    await assert.rejects(service.admin("GET", "/v1/identities?cursor=zzz"), { code: "request-invalid" });
    await assert.rejects(service.admin("GET", "/v1/identities?limit=0"), { code: "request-invalid" });
    await enrolled(service, "page-00");
    const expiring = await service.admin<{ items: { identity: string }[] }>(
      "GET",
      "/v1/certificates?identity=page-00&expiresBefore=31d",
    );
    assert.equal(expiring.items.length, 1);
    const later = await service.admin<{ items: unknown[] }>(
      "GET",
      "/v1/certificates?identity=page-00&expiresBefore=7d",
    );
    assert.equal(later.items.length, 0);
  });

  it("has the metrics of the contract, health, and an audit chain that verifies", async () => {
    const text = await (await fetch(`${service.urls.ops}/metrics`)).text();
    for (const name of [
      "newleaf_certificate_not_after_timestamp_seconds",
      "newleaf_certificates_expiring",
      "newleaf_certificates",
      "newleaf_issued_total",
      "newleaf_refused_total",
      "newleaf_revoked_total",
      "newleaf_served_mismatch",
      "newleaf_agent_last_seen_timestamp_seconds",
      "newleaf_renewal_overdue",
      "newleaf_renewal_unconfirmed",
      "newleaf_lineage_conflicts_total",
      "newleaf_lineage_stale_uses_total",
      "newleaf_lineages_locked",
      "newleaf_approvals_pending",
      "newleaf_tls_handshake_failures_total",
      "newleaf_crl_this_update_timestamp_seconds",
      "newleaf_crl_next_update_timestamp_seconds",
      "newleaf_crl_number",
      "newleaf_issuer_not_after_timestamp_seconds",
      "newleaf_issuer_horizon_timestamp_seconds",
      "newleaf_root_key_present",
      "newleaf_store_commit_seconds",
      "newleaf_http_request_duration_seconds",
      "newleaf_build_info",
    ]) {
      assert.match(text, new RegExp(`^# HELP ${name} `, "m"));
    }
    assert.match(text, /newleaf_certificates_expiring\{within="14d"\}/);
    assert.equal((await fetch(`${service.urls.ops}/livez`)).status, 200);
    assert.equal((await fetch(`${service.urls.ops}/readyz`)).status, 200);
    const { rows } = await service.admin<{
      rows: Parameters<typeof import("../../server/audit-chain.ts").verifyAuditChain>[0];
    }>("GET", "/v1/audit/chain?limit=5000");
    const { verifyAuditChain } = await import("../../server/audit-chain.ts");
    assert.equal(verifyAuditChain(rows).ok, true);
  });

  it("frees the key of a removed identity when no leaf was ever issued for it", async () => {
    const keys = [`sha256:${"b".repeat(64)}`];
    await service.admin("POST", "/v1/identities", { ...entry("key-owner"), keys });
    await assert.rejects(service.admin("POST", "/v1/identities", { ...entry("key-heir"), keys }), {
      code: "key-in-use",
    });
    await service.admin("DELETE", "/v1/identities/key-owner");
    await service.admin("POST", "/v1/identities", { ...entry("key-heir"), keys });
  });

  it("closes what was given out for a removed identity, also for a later one of the same name", async () => {
    const token = await service.token("reborn");
    await service.admin("DELETE", "/v1/identities/reborn");
    await service.admin("POST", "/v1/identities", entry("reborn"));
    const body = { csr: csrFor(await newKey()), token };
    await assert.rejects(call(service, "enrollment", "POST", "/v1/enrollments", { body }), { code: "token-invalid" });
  });

  it("has its data directory for itself", async () => {
    await assert.rejects(startServer(service.server.authority.config), /Another process has the database/);
  });

  it("stops gracefully: a held poll is answered, run.json is gone", async () => {
    const host = await settled(service, "stopping");
    const { cursor } = (await call(service, "agents", "GET", "/v1/changes", { host })).body as { cursor: string };
    const held = call(service, "agents", "GET", `/v1/changes?after=${cursor}&wait=50s`, { host });
    await new Promise((resolve) => setTimeout(resolve, 100));
    const begun = performance.now();
    await service.server[Symbol.asyncDispose]();
    assert.equal((await held).status, 204);
    assert.ok(performance.now() - begun < 5_000);
    await assert.rejects(readFile(`${service.dataDir}/run.json`), { code: "ENOENT" });
    await service.restart();
  });
});
