/** Operators' own certificates, where two other people have to agree to them. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { keyFingerprint } from "@newleaf/shared/fingerprint";
import type { ProblemCode } from "@newleaf/shared/problems";
import { decideRequest } from "../../../../server/authority/enrollment/approvals.ts";
import { enroll as enrollUseCase } from "../../../../server/authority/enrollment/enroll.ts";
import { csrFor, newKey } from "../../../support/agent-client.ts";
import { person } from "../../../support/operators.ts";
import { operatorId, startService, type TestService } from "../../../support/service.ts";

const refused = (code: ProblemCode) => ({ code });

describe("the rule for operators themselves", () => {
  let guarded: TestService;
  before(async () => {
    guarded = await startService();
  });
  after(() => guarded[Symbol.asyncDispose]());

  it("is the configuration's of now; nobody approves a certificate of his own", async () => {
    let key = await newKey();
    const eve = await person(guarded, "eve@operators", "admin");
    const mallory = await person(guarded, "mallory@operators", "admin");
    // The service begins anew with other settings: what waits is judged by them.
    const profiles = { ...guarded.server.authority.config.profiles };
    const config = {
      ...guarded.server.authority.config,
      profiles: { ...profiles, operator: { ...profiles.operator, approvals: 2 } },
    };
    const authority = { ...guarded.server.authority, config };
    const { token: text } = await guarded.admin<{ token: string }>("POST", "/v1/tokens", { identity: eve.id });
    const stranger = { requestId: "t", address: "127.0.0.1", actorKind: "stranger" as const, actor: "stranger" };
    const outcome = await enrollUseCase(authority, { ...stranger }, { csr: csrFor(key), token: text });
    assert.ok(outcome.kind === "pending");
    const as = (actor: string) => ({ ...stranger, actorKind: "operator" as const, actor, role: "admin" as const });
    const decision = { decision: "approve" as const, identity: eve.id, fingerprint: keyFingerprint(key) };
    await assert.rejects(decideRequest(authority, as(eve.id), outcome.request.id, decision), refused("not-permitted"));
    await assert.rejects(decideRequest(authority, as(operatorId), outcome.request.id, decision), refused("conflict"));
    const lesser = { ...as("carol@operators"), role: "approver" as const };
    const no = { ...decision, decision: "deny" as const };
    await assert.rejects(decideRequest(authority, lesser, outcome.request.id, no), refused("not-permitted"));
    const { certificate } = await decideRequest(authority, as(mallory.id), outcome.request.id, decision);
    assert.equal(certificate?.identity, eve.id);

    // A token that an operator made for himself is nobody's yes.
    key = await newKey();
    const own = await mallory.ask<{ token: string }>("POST", "/v1/tokens", { identity: mallory.id });
    const waiting = await enrollUseCase(authority, { ...stranger }, { csr: csrFor(key), token: own.token });
    assert.ok(waiting.kind === "pending");
    const yes = { decision: "approve" as const, identity: mallory.id, fingerprint: keyFingerprint(key) };
    assert.equal((await decideRequest(authority, as(operatorId), waiting.request.id, yes)).certificate, null);
    await assert.rejects(decideRequest(authority, as(mallory.id), waiting.request.id, yes), refused("not-permitted"));
  });
});
