import { z } from "zod";
import { isoTime } from "../../authority/issue.ts";
import { createToken, revokeToken } from "../../authority/enrollment/tokens.ts";
import type { TokenRow } from "../../store/enrollments.ts";
import { fingerprint, identityId, listOf, nullable, time } from "./answer-schemas.ts";
import { operation } from "./operation.ts";
import { tokenQuery, tokenSchema } from "./schemas.ts";

const tokenAnswer = z
  .strictObject({
    id: z.string(),
    identity: identityId,
    state: z.enum(["open", "spent", "revoked", "expired"]),
    createdBy: identityId,
    createdAt: time,
    expiresAt: time,
    spentAt: nullable(time),
    spentOn: nullable(z.string()),
  })
  .meta({ id: "Token" });

const createdTokenAnswer = z
  .strictObject({
    id: z.string(),
    token: z.string(),
    identity: identityId,
    expiresAt: time,
    rootFingerprint: fingerprint,
  })
  .meta({ id: "CreatedToken" });

export const tokenOperations = [
  operation({
    id: "listTokens",
    method: "get",
    path: "/v1/tokens",
    act: "tokens.read",
    summary: "Enrollment tokens, newest first; never their secrets",
    query: tokenQuery,
    answers: { 200: listOf(tokenAnswer) },
    async handle({ store, clock }, { query }) {
      const page = await store.listTokens(query);
      const now = clock.now();
      return {
        status: 200,
        body: { items: page.items.map((row) => describeToken(row, now)), nextCursor: page.nextCursor },
      };
    },
  }),
  operation({
    id: "createToken",
    method: "post",
    path: "/v1/tokens",
    act: "tokens.create",
    summary: "A token that enrolls one host as this identity, once; the only answer that shows it",
    body: tokenSchema,
    answers: { 201: createdTokenAnswer },
    problems: ["identity-unknown", "identity-suspended"],
    async handle(authority, { caller, body }) {
      const created = await createToken(authority, caller, body.identity, body.ttl);
      return { status: 201, body: { ...created, expiresAt: isoTime(created.expiresAt) } };
    },
  }),
  operation({
    id: "revokeToken",
    method: "delete",
    path: "/v1/tokens/{id}",
    act: "tokens.revoke",
    summary: "Makes a token worthless; one that was spent or revoked stays as it is",
    answers: { 204: null },
    problems: ["not-found"],
    async handle(authority, { caller, param }) {
      await revokeToken(authority, caller, param("id"));
      return { status: 204 };
    },
  }),
];

function describeToken(row: TokenRow, now: number): z.output<typeof tokenAnswer> {
  return {
    id: row.id,
    identity: row.identity,
    state: stateOf(row, now),
    createdBy: row.createdBy,
    createdAt: isoTime(row.createdAt),
    expiresAt: isoTime(row.expiresAt),
    spentAt: row.spentAt === null ? null : isoTime(row.spentAt),
    spentOn: row.spentOn,
  };
}

function stateOf(row: TokenRow, now: number): "open" | "spent" | "revoked" | "expired" {
  if (row.spentAt !== null) return "spent";
  if (row.revokedAt !== null) return "revoked";
  return row.expiresAt <= now ? "expired" : "open";
}
