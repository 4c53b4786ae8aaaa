import { pemEncode } from "@newleaf/shared/pem";
import { AppError } from "@newleaf/shared/problems";
import { normaliseSerial } from "@newleaf/shared/serial-number";
import { z } from "zod";
import type { Authority } from "../../authority/authority.ts";
import { isoTime } from "../../authority/issue.ts";
import { chainOf } from "../../authority/issuers.ts";
import { parseReason, releaseHold, revoke } from "../../authority/revocation/revoke.ts";
import type { CertificateRow } from "../../store/certificates.ts";
import {
  type AnswerOf,
  certificateState,
  count,
  fingerprint,
  identityId,
  listOf,
  nullable,
  profileName,
  renewalPeriod,
  serial as serialText,
  time,
} from "./answer-schemas.ts";
import { operation } from "./operation.ts";
import { certificateQuery, readMoment, reasonSchema } from "./schemas.ts";

const certificateFields = {
  serial: serialText,
  identity: identityId,
  profile: profileName,
  state: certificateState,
  kind: z.enum(["enrollment", "renewal", "recovery"]),
  issuer: z.string(),
  lineage: nullable(z.string()),
  generation: count,
  parent: nullable(serialText),
  key: fingerprint,
  fingerprint,
  notBefore: time,
  notAfter: time,
  issuedAt: time,
  renewal: renewalPeriod,
  firstUsedAt: nullable(time),
  supersededAt: nullable(time),
  revokedAt: nullable(time),
  reason: nullable(z.string()),
};

export const certificateAnswer = z.strictObject(certificateFields).meta({ id: "Certificate" });

const wholeCertificateAnswer = z
  .strictObject({
    ...certificateFields,
    certificate: z.string().describe("PEM of the leaf"),
    chain: z.string().describe("PEM of the intermediates"),
  })
  .meta({ id: "CertificateWithPem" });

export const certificateOperations = [
  operation({
    id: "listCertificates",
    method: "get",
    path: "/v1/certificates",
    act: "certificates.read",
    summary: "Every certificate there is a record of",
    query: certificateQuery,
    answers: { 200: listOf(certificateAnswer) },
    async handle({ store, clock }, { query }) {
      const { expiresBefore, ...filter } = query;
      const now = clock.now();
      const page = await store.listCertificates({
        ...filter,
        now,
        ...(expiresBefore === undefined ? {} : { expiresBefore: readMoment(expiresBefore, now) }),
      });
      return {
        status: 200,
        body: { items: page.items.map((row) => describeCertificate(row, now)), nextCursor: page.nextCursor },
      };
    },
  }),
  operation({
    id: "getCertificate",
    method: "get",
    path: "/v1/certificates/{serial}",
    act: "certificates.read",
    summary: "One certificate, with its PEM and chain",
    answers: { 200: wholeCertificateAnswer },
    problems: ["serial-unknown"],
    async handle(authority, { param }) {
      const row = await requireCertificate(authority, param("serial"));
      const chain = chainOf(authority.issuers, row.issuerId).map((der) => pemEncode("CERTIFICATE", der));
      return {
        status: 200,
        body: {
          ...describeCertificate(row, authority.clock.now()),
          certificate: pemEncode("CERTIFICATE", row.der),
          chain: chain.join(""),
        },
      };
    },
  }),
  operation({
    id: "revokeCertificate",
    method: "post",
    path: "/v1/certificates/{serial}/revocation",
    act: "certificates.revoke",
    summary: "Revokes or holds one certificate; the same reason again changes nothing",
    body: reasonSchema,
    answers: { 200: certificateAnswer },
    problems: ["reason-invalid", "serial-unknown", "already-revoked", "conflict"],
    async handle(authority, { caller, param, body }) {
      const reason = parseReason(body.reason);
      const serial = normaliseSerial(param("serial"));
      await revoke(authority, caller, { serial }, reason);
      const row = await requireCertificate(authority, serial);
      return { status: 200, body: describeCertificate(row, authority.clock.now()) };
    },
  }),
  operation({
    id: "releaseCertificate",
    method: "delete",
    path: "/v1/certificates/{serial}/revocation",
    act: "certificates.revoke",
    summary: "Lifts a hold; any other revocation is final",
    answers: { 200: certificateAnswer },
    problems: ["serial-unknown", "conflict"],
    async handle(authority, { caller, param }) {
      const serial = normaliseSerial(param("serial"));
      await releaseHold(authority, caller, serial);
      const row = await requireCertificate(authority, serial);
      return { status: 200, body: describeCertificate(row, authority.clock.now()) };
    },
  }),
];

async function requireCertificate(authority: Authority, serial: string): Promise<CertificateRow> {
  const row = await authority.store.findCertificate(normaliseSerial(serial));
  if (row === null) throw new AppError("serial-unknown", `No certificate has serial ${serial.slice(0, 60)}`);
  return row;
}

/** `expired` is derived: a revoked or held one stays so. */
export function describeCertificate(row: CertificateRow, now: number): AnswerOf<typeof certificateAnswer> {
  const isRevoked = row.state === "revoked" || row.state === "held";
  return {
    serial: row.serial,
    identity: row.identity,
    profile: row.profile,
    state: !isRevoked && row.notAfter < now ? "expired" : row.state,
    kind: row.kind,
    issuer: row.issuerId,
    lineage: row.lineage,
    generation: row.generation,
    parent: row.parent,
    key: row.key,
    fingerprint: row.fingerprint,
    notBefore: isoTime(row.notBefore),
    notAfter: isoTime(row.notAfter),
    issuedAt: isoTime(row.issuedAt),
    renewal: { start: isoTime(row.renewalStart), end: isoTime(row.renewalEnd) },
    firstUsedAt: row.firstUsedAt === null ? null : isoTime(row.firstUsedAt),
    supersededAt: row.supersededAt === null ? null : isoTime(row.supersededAt),
    revokedAt: row.revokedAt === null ? null : isoTime(row.revokedAt),
    reason: row.reason,
  };
}
