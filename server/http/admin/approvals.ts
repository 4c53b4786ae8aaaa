import { AppError } from "@newleaf/shared/problems";
import { z } from "zod";
import { decideRequest, standingOf } from "../../authority/enrollment/approvals.ts";
import type { Authority } from "../../authority/authority.ts";
import { isoTime } from "../../authority/issue.ts";
import type { RequestRow } from "../../store/enrollments.ts";
import { type AnswerOf, fingerprint, identityId, listOf, nullable, serial, time } from "./answer-schemas.ts";
import { operation } from "./operation.ts";
import { approvalQuery, decisionSchema } from "./schemas.ts";

const approvalAnswer = z
  .strictObject({
    id: z.string(),
    state: z.enum(["pending", "issued", "denied"]),
    fingerprint,
    names: z.array(z.string()).describe("what the request asks for"),
    claim: nullable(z.string()).describe("who the host says it is; a hint, never a decision"),
    address: z.string(),
    createdAt: time,
    expiresAt: time,
    identity: nullable(identityId).describe("who the key is to be, as far as anybody has said"),
    needed: nullable(z.int()).describe(
      "how many different operators have to say yes; null while the identity is unknown",
    ),
    approvals: z
      .array(
        z.strictObject({
          by: identityId,
          how: z
            .enum(["approval", "token", "approved-key", "recovery-grant"])
            .describe("by hand, or by what the operator made for it beforehand"),
          at: time,
        }),
      )
      .describe("those who said yes; of a request that waits only those that count now"),
    serial: nullable(serial),
    decidedBy: nullable(identityId),
    decidedAt: nullable(time),
  })
  .meta({ id: "Approval" });

export const approvalOperations = [
  operation({
    id: "listApprovals",
    method: "get",
    path: "/v1/approvals",
    act: "approvals.read",
    summary: "Enrollment requests that wait, or waited, for a decision",
    query: approvalQuery,
    answers: { 200: listOf(approvalAnswer) },
    async handle(authority, { query }) {
      const page = await authority.store.listRequests({ ...query, now: authority.clock.now() });
      const items = await Promise.all(page.items.map((row) => describeRequest(authority, row)));
      return { status: 200, body: { items, nextCursor: page.nextCursor } };
    },
  }),
  operation({
    id: "getApproval",
    method: "get",
    path: "/v1/approvals/{id}",
    act: "approvals.read",
    summary: "One enrollment request",
    answers: { 200: approvalAnswer },
    problems: ["not-found"],
    async handle(authority, { param }) {
      const row = await authority.store.findRequest(param("id"), authority.clock.now());
      if (row === null) {
        throw new AppError(
          "not-found",
          `There is no enrollment request ${param("id").slice(0, 40)}; requests live for a day`,
        );
      }
      return { status: 200, body: await describeRequest(authority, row) };
    },
  }),
  operation({
    id: "decideApproval",
    method: "post",
    path: "/v1/approvals/{id}/decision",
    act: "approvals.decide",
    summary: "Says yes, and who the key is to be, or no; the fingerprint must be the request's",
    body: decisionSchema,
    answers: { 200: approvalAnswer },
    problems: [
      "not-found",
      "conflict",
      "identity-unknown",
      "identity-suspended",
      "names-not-permitted",
      "key-blocked",
      "key-in-use",
      "key-not-acceptable",
      "lineage-locked",
      "enrollment-denied",
      "issuer-unavailable",
    ],
    async handle(authority, { caller, param, body }) {
      const { request } = await decideRequest(authority, caller, param("id"), body);
      return { status: 200, body: await describeRequest(authority, request) };
    },
  }),
];

async function describeRequest(authority: Authority, row: RequestRow): Promise<AnswerOf<typeof approvalAnswer>> {
  const { identity, needed, approvals } = await standingOf(authority, row);
  return {
    id: row.id,
    state: row.state,
    fingerprint: row.key,
    names: row.askedNames,
    claim: row.claim,
    address: row.address,
    createdAt: isoTime(row.createdAt),
    expiresAt: isoTime(row.expiresAt),
    identity,
    needed,
    approvals: approvals.map(({ by, how, at }) => ({ by, how, at: isoTime(at) })),
    serial: row.serial,
    decidedBy: row.decidedBy,
    decidedAt: row.decidedAt === null ? null : isoTime(row.decidedAt),
  };
}
