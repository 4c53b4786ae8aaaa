import { normaliseSerial } from "@newleaf/shared/serial-number";
import { AppError } from "@newleaf/shared/problems";
import { z } from "zod";
import type { Authority } from "../../authority/authority.ts";
import { isoTime } from "../../authority/issue.ts";
import { parseReason } from "../../authority/revocation/revoke.ts";
import { adoptUnvouched, revokeUnvouched } from "../../authority/unvouched.ts";
import type { UnvouchedRow } from "../../store/restores.ts";
import { type AnswerOf, fingerprint, identityId, listOf, nullable, serial, time } from "./answer-schemas.ts";
import { operation } from "./operation.ts";
import { reasonSchema, unvouchedQuery } from "./schemas.ts";

const unvouchedAnswer = z
  .strictObject({
    serial,
    issuer: z.string(),
    identity: z.string().describe("what the leaf says of itself; nobody vouches for it"),
    key: fingerprint,
    notBefore: time,
    notAfter: time,
    address: z.string().describe("where it was seen last"),
    firstSeenAt: time,
    lastSeenAt: time,
    state: z.enum(["open", "adopted", "revoked"]),
    decidedBy: nullable(identityId),
    decidedAt: nullable(time),
  })
  .meta({ id: "Unvouched" });

export const unvouchedOperations = [
  operation({
    id: "listUnvouched",
    method: "get",
    path: "/v1/unvouched",
    act: "certificates.read",
    summary:
      "Leaves with our issuer's signature that the store does not know, newest first; each is refused until somebody decides",
    query: unvouchedQuery,
    answers: { 200: listOf(unvouchedAnswer) },
    async handle({ store }, { query }) {
      const page = await store.listUnvouched(query);
      return { status: 200, body: { items: page.items.map(describe), nextCursor: page.nextCursor } };
    },
  }),
  operation({
    id: "adoptUnvouched",
    method: "post",
    path: "/v1/unvouched/{serial}/adoption",
    act: "certificates.adopt",
    summary: "Vouches for such a leaf: it becomes a leaf of the identity it names, in a lineage of its own",
    answers: { 200: unvouchedAnswer },
    problems: [
      "serial-unknown",
      "conflict",
      "identity-unknown",
      "identity-suspended",
      "names-not-permitted",
      "lineage-locked",
      "key-in-use",
      "key-blocked",
    ],
    async handle(authority, { caller, param }) {
      const which = normaliseSerial(param("serial"));
      await adoptUnvouched(authority, caller, which);
      return { status: 200, body: describe(await require(authority, which)) };
    },
  }),
  operation({
    id: "revokeUnvouched",
    method: "post",
    path: "/v1/unvouched/{serial}/revocation",
    act: "certificates.revoke",
    summary: "Puts such a leaf's serial onto its issuer's CRL; with keyCompromise its key is blocked for ever",
    body: reasonSchema,
    answers: { 200: unvouchedAnswer },
    problems: ["serial-unknown", "conflict", "reason-invalid"],
    async handle(authority, { caller, param, body }) {
      const which = normaliseSerial(param("serial"));
      await revokeUnvouched(authority, caller, which, parseReason(body.reason));
      return { status: 200, body: describe(await require(authority, which)) };
    },
  }),
];

async function require({ store }: Authority, which: string): Promise<UnvouchedRow> {
  const row = await store.findUnvouched(which);
  if (row === null) throw new AppError("serial-unknown", `No unvouched leaf has serial ${which.slice(0, 60)}`);
  return row;
}

function describe(row: UnvouchedRow): AnswerOf<typeof unvouchedAnswer> {
  return {
    serial: row.serial,
    issuer: row.issuerId,
    identity: row.identity,
    key: row.key,
    notBefore: isoTime(row.notBefore),
    notAfter: isoTime(row.notAfter),
    address: row.address,
    firstSeenAt: isoTime(row.firstSeenAt),
    lastSeenAt: isoTime(row.lastSeenAt),
    state: row.state,
    decidedBy: row.decidedBy,
    decidedAt: row.decidedAt === null ? null : isoTime(row.decidedAt),
  };
}
