/** Where a profile needs two people, no way around leads to a certificate with one. */
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, it } from "node:test";
import type { KeyObject } from "node:crypto";
import type { CertificateAnswer, PendingAnswer } from "@newleaf/shared/api";
import { keyFingerprint } from "@newleaf/shared/fingerprint";
import type { ProblemCode } from "@newleaf/shared/problems";
import { decideRequest } from "../../../../../server/authority/enrollment/approvals.ts";
import type { IssuanceRecord } from "../../../../../server/store/certificates.ts";
import { call, csrFor, type Host, newKey, renew, settled, use } from "../../../../support/agent-client.ts";
import { person, type Person } from "../../../../support/operators.ts";
import { startService, type TestService } from "../../../../support/service.ts";

interface Approval {
  readonly id: string;
  readonly state: string;
  readonly identity: string | null;
  readonly needed: number | null;
  readonly approvals: readonly { readonly by: string; readonly how: string }[];
  readonly serial: string | null;
  readonly decidedBy: string | null;
}

let service: TestService;
let alice: Person;
let bob: Person;
let carol: Person;
let id: string;
let key: KeyObject;
let count = 0;

const refused = (code: ProblemCode) => ({ code });

before(async () => {
  // Short leaves: the clock is moved past one of them, and the service's own certificate must not be due by that.
  service = await startService({ NEWLEAF_PROFILES_GATEWAY_APPROVALS: "2", NEWLEAF_PROFILES_GATEWAY_VALIDITY: "90s" });
  alice = await person(service, "alice@operators", "operator");
  bob = await person(service, "bob@operators", "operator");
  carol = await person(service, "carol@operators", "approver");
});
after(() => service[Symbol.asyncDispose]());
beforeEach(async () => {
  id = `gateway-${(count += 1)}`;
  key = await newKey();
});

function add(keys: readonly string[] = [], by: Pick<Person, "ask"> = alice, profile = "gateway"): Promise<unknown> {
  return by.ask("POST", "/v1/identities", { id, profile, keys });
}

async function token(by: Pick<Person, "ask">, ttl = "1h"): Promise<{ readonly id: string; readonly token: string }> {
  return by.ask("POST", "/v1/tokens", { identity: id, ttl });
}

async function enroll({ token }: { token?: string } = {}): Promise<CertificateAnswer | PendingAnswer> {
  const body = { csr: csrFor(key), ...(token === undefined ? {} : { token }) };
  const answer = await call(service, "enrollment", "POST", "/v1/enrollments", { body });
  return answer.body as CertificateAnswer | PendingAnswer;
}

/** The enrollment waits: nothing was issued. */
async function waits(body: { token?: string } = {}): Promise<string> {
  const answer = await enroll(body);
  assert.ok("state" in answer, "a certificate was issued with one person's yes");
  assert.equal((await service.server.authority.store.listUsable(id, service.clock.now())).length, 0);
  return answer.id;
}

function decide(by: Pick<Person, "ask">, request: string, decision: "approve" | "deny" = "approve"): Promise<Approval> {
  const identity = decision === "approve" ? { identity: id } : {};
  return by.ask("POST", `/v1/approvals/${request}/decision`, {
    decision,
    fingerprint: keyFingerprint(key),
    ...identity,
  });
}

const show = (request: string): Promise<Approval> => alice.ask("GET", `/v1/approvals/${request}`);

async function poll(request: string): Promise<CertificateAnswer> {
  const { status, body } = await call(service, "enrollment", "GET", `/v1/enrollments/${request}`);
  assert.equal(status, 200);
  return body as CertificateAnswer;
}

const grant = (by: Person): Promise<unknown> => by.ask("POST", `/v1/identities/${id}/recovery-grants`, { ttl: "24h" });

const changeRole = (who: Person, role: string): Promise<unknown> =>
  service.admin("PATCH", `/v1/operators/${who.id}`, { role });

const yeses = (approval: Approval): string[] => approval.approvals.map(({ by, how }) => `${by} ${how}`);

describe("a token of one operator", () => {
  it("is the first yes; its maker cannot give the second, another operator can, and it is spent then", async () => {
    await add();
    const made = await token(alice);
    const request = await waits(made);
    assert.equal(await waits(made), request, "the same request again");
    const shown = await show(request);
    assert.deepEqual([shown.identity, shown.needed, yeses(shown)], [id, 2, [`${alice.id} token`]]);
    await assert.rejects(decide(alice, request), refused("conflict"));
    const decided = await decide(carol, request);
    assert.deepEqual([decided.state, decided.decidedBy], ["issued", carol.id]);
    assert.deepEqual(yeses(decided), [`${alice.id} token`, `${carol.id} approval`]);
    const answer = await poll(request);
    assert.equal(answer.identity, id);
    const { store } = service.server.authority;
    assert.equal((await store.findTokenById(made.id))?.spentOn, answer.serial);
    assert.equal(((await enroll(made)) as CertificateAnswer).serial, answer.serial, "and a lost answer comes again");
    key = await newKey();
    await assert.rejects(enroll(made), refused("token-invalid"));
  });

  it("that is revoked while the request waits counts no more", async () => {
    await add();
    const made = await token(alice);
    const request = await waits(made);
    await alice.ask("DELETE", `/v1/tokens/${made.id}`);
    assert.deepEqual(yeses(await show(request)), []);
    assert.equal((await decide(carol, request)).state, "pending");
    assert.equal((await decide(bob, request)).state, "issued");
  });

  it("that expires while the request waits counts no more, and its maker may say yes by hand", async () => {
    await add();
    const request = await waits(await token(alice, "10s"));
    service.clock.advance(11_000);
    assert.deepEqual(yeses(await decide(alice, request)), [`${alice.id} approval`]);
    assert.equal((await decide(bob, request)).state, "issued");
  });

  it("issues at once when another operator had said yes to the key before, and not when its maker had", async () => {
    await add();
    const request = await waits();
    assert.equal((await decide(alice, request)).state, "pending");
    assert.equal(await waits(await token(alice)), request);
    const answer = await enroll(await token(bob));
    assert.ok("serial" in answer);
    assert.equal((await show(request)).serial, answer.serial);
    assert.deepEqual(yeses(await show(request)), [`${alice.id} approval`, `${bob.id} token`]);
  });

  it("of two operators for one host are one yes: the later stands for the earlier", async () => {
    await add();
    const request = await waits(await token(alice));
    assert.equal(await waits(await token(bob)), request);
    assert.deepEqual(yeses(await show(request)), [`${bob.id} token`]);
  });

  it("lets a few keys wait, not as many as its holder likes", async () => {
    await add();
    const made = await token(alice);
    for (let keys = 0; keys < 5; keys += 1) {
      key = await newKey();
      await waits(made);
    }
    await waits(made);
    key = await newKey();
    await assert.rejects(enroll(made), refused("rate-limited"));
    await waits();
    await assert.rejects(enroll(made), refused("rate-limited"), "nor of a key that asked before without it");
  });

  it("does not let an approval make its holder somebody else", async () => {
    await add();
    const request = await waits(await token(alice));
    const other = id;
    id = `${other}-b`;
    await add();
    await assert.rejects(decide(carol, request), refused("conflict"));
    id = other;
    assert.equal((await decide(carol, request)).state, "issued");
  });
});

describe("an approved key", () => {
  it("is the first yes of who put it on the list, by hand or by inventory; it is spent with the second", async () => {
    await add();
    const entry = { id, profile: "gateway", keys: [keyFingerprint(key)] };
    await alice.ask("POST", "/v1/inventory/apply", { identities: [entry] });
    // The same file applied by somebody else approves nothing anew.
    await bob.ask("POST", "/v1/inventory/apply", { identities: [entry] });
    const request = await waits();
    assert.deepEqual(yeses(await show(request)), [`${alice.id} approved-key`]);
    await assert.rejects(decide(alice, request), refused("conflict"));
    assert.equal((await decide(bob, request)).state, "issued");
    assert.equal((await service.server.authority.store.findKey(keyFingerprint(key)))?.armed, false);
  });

  it("armed again is the first yes of who armed it", async () => {
    await add([keyFingerprint(key)]);
    await bob.ask("PATCH", `/v1/identities/${id}`, { rearmKeys: true });
    const request = await waits();
    await assert.rejects(decide(bob, request), refused("conflict"));
    assert.equal((await decide(alice, request)).state, "issued");
  });

  it("taken off the list counts no more", async () => {
    await add([keyFingerprint(key)]);
    const request = await waits();
    await alice.ask("PATCH", `/v1/identities/${id}`, { keys: [] });
    assert.equal((await decide(carol, request)).state, "pending");
  });
});

describe("a recovery grant", () => {
  it("is the first yes of its maker; the second recovers the identity and spends it", async () => {
    await add();
    await decide(carol, await waits(await token(alice)));
    const { answer } = { answer: (await enroll()) as CertificateAnswer };
    await use(service, { key, answer });
    service.clock.advance(91_000);
    await grant(bob);
    const request = await waits();
    assert.deepEqual(yeses(await show(request)), [`${bob.id} recovery-grant`]);
    await assert.rejects(decide(bob, request), refused("conflict"));
    await decide(alice, request);
    const again = await poll(request);
    assert.notEqual(again.serial, answer.serial);
    const { store } = service.server.authority;
    assert.equal((await store.findCertificate(again.serial))?.kind, "recovery");
    assert.equal(await store.findOpenGrant(id, service.clock.now()), null);
  });
});

describe("a request without anything", () => {
  it("needs two different operators; the same one twice is one", async () => {
    await add();
    const request = await waits();
    assert.deepEqual([(await show(request)).needed, (await show(request)).identity], [null, null]);
    const first = await decide(carol, request);
    assert.deepEqual([first.state, first.needed, yeses(first)], ["pending", 2, [`${carol.id} approval`]]);
    await assert.rejects(decide(carol, request), refused("conflict"));
    assert.equal((await decide(bob, request)).state, "issued");
  });

  it("is ended by one no, whoever said yes before", async () => {
    await add();
    const made = await token(alice);
    const request = await waits(made);
    assert.equal((await decide(carol, request, "deny")).state, "denied");
    await assert.rejects(decide(bob, request), refused("conflict"));
    await assert.rejects(enroll(made), refused("enrollment-denied"));
    await assert.rejects(enroll(), refused("enrollment-denied"));
  });

  it("of two who decide at the same moment issues one certificate", async () => {
    await add();
    const request = await waits();
    const states = (await Promise.all([decide(bob, request), decide(carol, request)])).map(({ state }) => state);
    assert.deepEqual(states.toSorted(), ["issued", "pending"]);
    const usable = await service.server.authority.store.listUsable(id, service.clock.now());
    assert.equal(usable.length, 1);
  });

  it("does not add up yeses to different identities", async () => {
    await add();
    const request = await waits();
    await decide(carol, request);
    const first = id;
    id = `${first}-b`;
    await add();
    assert.equal((await decide(bob, request)).state, "pending");
    id = first;
    assert.deepEqual(yeses(await show(request)), [`${bob.id} approval`]);
  });
});

describe("between the second yes and its commit", () => {
  /** Carol's yes, except that `act` happens right before the certificate would be recorded. */
  async function decidedWhile(request: string, act: () => Promise<unknown>): Promise<boolean> {
    const { authority } = service.server;
    let done = false;
    const recordIssuance = async (record: IssuanceRecord): Promise<void> => {
      if (!done) {
        done = true;
        await act();
      }
      await authority.store.recordIssuance(record);
    };
    const store = new Proxy(authority.store, {
      get: (target, name, receiver) =>
        name === "recordIssuance" ? recordIssuance : (Reflect.get(target, name, receiver) as unknown),
    });
    const { id: actor } = carol;
    const caller = { requestId: "t", address: "127.0.0.1", actorKind: "operator", actor, role: "approver" } as const;
    const decision = { decision: "approve", identity: id, fingerprint: keyFingerprint(key) } as const;
    const { certificate } = await decideRequest({ ...authority, store }, { ...caller }, request, decision);
    assert.ok(done, "nothing was about to be issued");
    return certificate !== null;
  }

  for (const [what, act] of [
    ["the first operator's role is lifted", () => changeRole(bob, "viewer")],
    ["the first operator is suspended", () => service.admin("POST", `/v1/identities/${bob.id}/suspension`)],
    ["the token is revoked", async () => bob.ask("DELETE", `/v1/tokens/${await newestToken()}`)],
  ] as const) {
    it(`nothing is issued when ${what}`, async () => {
      await add();
      const request = await waits(await token(bob));
      assert.equal(await decidedWhile(request, act), false);
      assert.equal((await service.server.authority.store.listUsable(id, service.clock.now())).length, 0);
      assert.deepEqual(yeses(await show(request)), [`${carol.id} approval`]);
      await service.admin("DELETE", `/v1/identities/${bob.id}/suspension`);
      await changeRole(bob, "operator");
    });
  }

  it("nothing is issued when the second operator's own role is lifted", async () => {
    await add();
    const request = await waits(await token(bob));
    await assert.rejects(
      decidedWhile(request, () => changeRole(carol, "viewer")),
      refused("not-permitted"),
    );
    await changeRole(carol, "approver");
  });

  const newestToken = async (): Promise<string> =>
    (await service.server.authority.store.listTokens({ limit: 1, identity: id })).items[0]?.id ?? "";
});

describe("an operator who is no longer what he was", () => {
  it("counts no more when his role was lifted, and again when he has it back", async () => {
    await add();
    const request = await waits(await token(bob));
    await changeRole(bob, "approver");
    assert.deepEqual(yeses(await show(request)), []);
    assert.equal((await decide(carol, request)).state, "pending");
    await changeRole(bob, "operator");
    assert.deepEqual(yeses(await show(request)), [`${bob.id} token`, `${carol.id} approval`]);
    assert.equal((await decide(alice, request)).state, "issued");
  });

  it("counts no more when he is suspended or removed", async () => {
    const dave = await person(service, "dave@operators", "operator");
    await add();
    const request = await waits(await token(dave));
    await service.admin("POST", `/v1/identities/${dave.id}/suspension`);
    assert.deepEqual(yeses(await show(request)), []);
    await service.admin("DELETE", `/v1/identities/${dave.id}/suspension`);
    assert.deepEqual(yeses(await show(request)), [`${dave.id} token`]);
    await service.admin("DELETE", `/v1/operators/${dave.id}`);
    assert.equal((await decide(carol, request)).state, "pending");
  });
});

describe("other ways to a certificate that needs two", () => {
  it("a profile that needs one yes does not renew into one that needs two", async () => {
    const host: Host = await settled(service, id);
    await alice.ask("PATCH", `/v1/identities/${id}`, { profile: "gateway" });
    await assert.rejects(renew(service, host), refused("enrollment-denied"));
    await alice.ask("PATCH", `/v1/identities/${id}`, { profile: "agent" });
    await renew(service, host);
  });

  it("a renewal needs nobody", async () => {
    await add();
    await decide(carol, await waits(await token(alice)));
    const host = { key, answer: (await enroll()) as CertificateAnswer };
    await use(service, host);
    await renew(service, host);
  });

  it("an identity removed and added again under its name begins with no yes", async () => {
    await add();
    const request = await waits(await token(alice));
    await bob.ask("DELETE", `/v1/identities/${id}`);
    await add([], bob);
    assert.equal((await decide(carol, request)).state, "pending");
  });

  it("nor does a yes by hand to the former one count for the next", async () => {
    await add();
    const request = await waits();
    await decide(alice, request);
    await bob.ask("DELETE", `/v1/identities/${id}`);
    await add([], bob);
    assert.deepEqual(yeses(await show(request)), []);
    assert.equal((await decide(bob, request)).state, "pending");
    assert.equal((await decide(carol, request)).state, "issued");
  });

  it("a key, names or an identity that would be refused do not wait for anybody", async () => {
    await add();
    const made = await token(alice);
    const csr = csrFor(key, { dns: ["somebody-else.claw.internal"] });
    const asked = call(service, "enrollment", "POST", "/v1/enrollments", { body: { csr, token: made.token } });
    await assert.rejects(asked, refused("names-not-permitted"));
  });
});
