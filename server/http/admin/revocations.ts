/** Revocation of whatever an operator can name, how it took effect, and CRLs made at a ceremony. */
import { issuerRevocationReasons } from "@newleaf/shared/api";
import { decodeBase64, pemDecode } from "@newleaf/shared/pem";
import { AppError } from "@newleaf/shared/problems";
import { normaliseSerial } from "@newleaf/shared/serial-number";
import { z } from "zod";
import type { Authority, Caller } from "../../authority/authority.ts";
import { readConfirmations, type Unconfirmed } from "../../authority/revocation/confirmations.ts";
import { importCrl } from "../../authority/revocation/import-crl.ts";
import { isoTime } from "../../authority/issue.ts";
import { describeCrl } from "../../authority/publications.ts";
import { type IssuerStep, revokeIssuer } from "../../authority/revocation/revoke-issuer.ts";
import {
  parseReason,
  revoke,
  type RevocationOutcome,
  type RevocationTarget,
} from "../../authority/revocation/revoke.ts";
import { type AnswerOf, count, fingerprint, hostTime, identityId, nullable, serial, time } from "./answer-schemas.ts";
import { crlAnswer } from "./issuers.ts";
import { operation } from "./operation.ts";
import { confirmationsQuery, importSchema, revocationSchema } from "./schemas.ts";

const placeAnswer = z
  .strictObject({
    certificate: z.string().describe("name of the certificate in the host's agent.yml"),
    installed: z.boolean(),
    served: z.array(z.strictObject({ address: z.string(), serverName: z.string(), at: hostTime })),
  })
  .meta({ id: "Place" });

const issuerStepAnswer = z
  .strictObject({
    issuer: z.string(),
    parent: z.string(),
    listedByParent: z.boolean(),
    unlistedLeaves: count.describe("being revoked one by one; none of them is accepted any more"),
    otherIssuers: count.describe("other issuers that new leaves can come from"),
    next: nullable(z.string()).describe("the command that comes next; null when nothing is open"),
  })
  .meta({ id: "IssuerStep" });

const revocationAnswer = z
  .strictObject({
    revoked: z
      .array(
        z.strictObject({
          serial,
          identity: identityId,
          reason: z.string(),
          state: z.enum(["revoked", "unchanged"]),
          notAfter: time,
          places: z.array(placeAnswer).describe("where it is, by the last report of its host"),
        }),
      )
      .describe("the first 1,000"),
    total: count,
    expired: count.describe("leaves past their end, which are left as they are"),
    blockedKeys: z.array(fingerprint),
    dryRun: z.boolean(),
    crls: z
      .array(z.strictObject({ issuer: z.string(), number: nullable(count) }))
      .describe("the first CRL of each issuer that lists all of it; null while none does"),
    issuer: issuerStepAnswer.exactOptional().describe("of an issuer: what is open"),
  })
  .meta({ id: "Revocation" });

const importedAnswer = z
  .strictObject({ crl: crlAnswer, lists: z.array(z.string()).describe("issuers of this service that it lists") })
  .meta({ id: "ImportedCrl" });

const unconfirmedAnswer = z
  .strictObject({
    identity: identityId,
    number: nullable(count).describe("of the CRL in force there"),
    lastSeen: nullable(time),
    failure: nullable(z.string()),
  })
  .meta({ id: "UnconfirmedHost" });

const confirmationsAnswer = z
  .strictObject({
    issuer: z.string(),
    number: count,
    connected: count,
    confirmed: count,
    unconfirmed: z.array(unconfirmedAnswer).describe("connected and not confirmed: the first 100"),
    silent: count,
    silentUnconfirmed: z.array(unconfirmedAnswer).describe("not connected and not confirmed: the first 100"),
  })
  .meta({ id: "Confirmations" });

export const revocationOperations = [
  operation({
    id: "revoke",
    method: "post",
    path: "/v1/revocations",
    act: "certificates.revoke",
    summary:
      "Revokes every usable leaf of a serial, lineage, identity, key or issuer; `dryRun` only says which and where",
    body: revocationSchema,
    answers: { 200: revocationAnswer },
    problems: ["reason-invalid", "serial-unknown", "not-found", "already-revoked", "conflict", "not-permitted"],
    async handle(authority, { caller, body }) {
      const outcome = await revokeAsked(authority, caller, body);
      return { status: 200, body: describeOutcome(outcome) };
    },
  }),
  operation({
    id: "readConfirmations",
    method: "get",
    path: "/v1/crls/{issuer}/confirmations",
    act: "issuers.read",
    summary: "Which connected agents have this CRL, or a newer one, in force",
    query: confirmationsQuery,
    answers: { 200: confirmationsAnswer },
    problems: ["not-found"],
    async handle(authority, { param, query }) {
      const { unconfirmed, silentUnconfirmed, ...counts } = await readConfirmations(
        authority,
        param("issuer"),
        query.number,
      );
      const body = {
        ...counts,
        unconfirmed: unconfirmed.map(describeHost),
        silentUnconfirmed: silentUnconfirmed.map(describeHost),
      };
      return { status: 200, body };
    },
  }),
  operation({
    id: "importCrl",
    method: "post",
    path: "/v1/issuers/{id}/crl",
    act: "issuers.revoke",
    summary: "Takes a CRL that was made at a ceremony, with a key that is not on this host",
    body: importSchema,
    large: true,
    answers: { 200: importedAnswer },
    problems: ["not-found", "conflict"],
    async handle(authority, { caller, param, body }) {
      const { crl, lists } = await importCrl(authority, caller, param("id"), readCrlText(body.crl));
      return { status: 200, body: { crl: describeCrl(authority, crl), lists } };
    },
  }),
];

type Asked = z.output<typeof revocationSchema>;

function revokeAsked(
  authority: Authority,
  caller: Caller,
  { reason, dryRun, issuer, ...targets }: Asked,
): Promise<RevocationOutcome & { readonly issuer?: IssuerStep }> {
  if (issuer === undefined) return revoke(authority, caller, chooseTarget(targets), parseReason(reason), { dryRun });
  const ofIssuer = issuerRevocationReasons.find((candidate) => candidate === reason) ?? parseReason(reason);
  return revokeIssuer(authority, caller, issuer, ofIssuer, { dryRun });
}

/** The schema lets exactly one through. */
function chooseTarget(targets: Pick<Asked, "serial" | "lineage" | "identity" | "key">): RevocationTarget {
  if (targets.serial !== undefined) return { serial: normaliseSerial(targets.serial) };
  if (targets.lineage !== undefined) return { lineage: targets.lineage };
  if (targets.identity !== undefined) return { identity: targets.identity };
  if (targets.key !== undefined) return { key: targets.key };
  throw new AppError("request-invalid", "name exactly one of serial, lineage, identity, key, issuer");
}

function describeOutcome(
  outcome: RevocationOutcome & { readonly issuer?: IssuerStep },
): AnswerOf<typeof revocationAnswer> {
  const { revoked, ...rest } = outcome;
  const items = revoked.map(({ outcome: state, notAfter, ...item }) => ({
    ...item,
    state,
    notAfter: isoTime(notAfter),
  }));
  return { ...rest, revoked: items };
}

function describeHost({ lastSeenAt, ...host }: Unconfirmed): AnswerOf<typeof unconfirmedAnswer> {
  return { ...host, lastSeen: lastSeenAt === null ? null : isoTime(lastSeenAt) };
}

/** PEM, or base64 of the DER. @throws AppError request-invalid */
function readCrlText(text: string): Buffer {
  const [first, ...more] = pemDecode(text, "X509 CRL");
  if (more.length > 0) throw new AppError("request-invalid", "The text holds several CRLs; send one at a time");
  return first ?? decodeBase64(text, "X509 CRL");
}
