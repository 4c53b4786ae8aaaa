import { X509Certificate } from "node:crypto";
import { z } from "zod";
import type { Authority } from "../../authority/authority.ts";
import { isoTime } from "../../authority/issue.ts";
import { describeCrl } from "../../authority/publications.ts";
import { publishCrl } from "../../authority/revocation/publish-crl.ts";
import type { IssuerRow } from "../../store/issuers.ts";
import { type AnswerOf, count, issuerState, listOf, nullable, time } from "./answer-schemas.ts";
import { operation } from "./operation.ts";

export const crlAnswer = z
  .strictObject({ issuer: z.string(), url: z.string(), number: count, thisUpdate: time, nextUpdate: time })
  .meta({ id: "Crl" });

const issuerAnswer = z
  .strictObject({
    id: z.string(),
    kind: z.enum(["root", "intermediate"]),
    state: issuerState,
    parent: z.string(),
    subject: z.string(),
    notBefore: time,
    notAfter: time,
    canSign: z.boolean().describe("its key is at hand"),
    revokedAt: nullable(time).describe("when it was revoked here as a whole"),
    reason: nullable(z.string()),
    crl: nullable(crlAnswer),
  })
  .meta({ id: "Issuer" });

export const issuerOperations = [
  operation({
    id: "listIssuers",
    method: "get",
    path: "/v1/issuers",
    act: "issuers.read",
    summary: "The CA certificates in force and the newest CRL of each",
    answers: { 200: listOf(issuerAnswer) },
    async handle(authority) {
      const items = authority.issuers.rows.map((row) => describeIssuer(authority, row));
      return { status: 200, body: { items, nextCursor: null } };
    },
  }),
  operation({
    id: "publishCrl",
    method: "post",
    path: "/v1/crls/{issuer}/publication",
    act: "crls.publish",
    summary: "A fresh CRL of this issuer, now",
    answers: { 200: crlAnswer },
    problems: ["not-found", "conflict", "issuer-unavailable"],
    async handle(authority, { caller, param }) {
      const crl = await publishCrl(authority, caller, param("issuer"), "asked for by an operator");
      return { status: 200, body: describeCrl(authority, crl) };
    },
  }),
];

function describeIssuer(authority: Authority, row: IssuerRow): AnswerOf<typeof issuerAnswer> {
  const crl = authority.issuers.crls.get(row.id);
  return {
    id: row.id,
    kind: row.kind,
    state: row.state,
    parent: row.parent,
    subject: new X509Certificate(row.certificate).subject,
    notBefore: isoTime(row.notBefore),
    notAfter: isoTime(row.notAfter),
    canSign: authority.issuers.signers.has(row.id),
    revokedAt: row.revokedAt == null ? null : isoTime(row.revokedAt),
    reason: row.revocationReason ?? null,
    crl: crl === undefined ? null : describeCrl(authority, crl),
  };
}
