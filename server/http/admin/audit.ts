import { parseDuration } from "@newleaf/shared/duration";
import { pemEncode } from "@newleaf/shared/pem";
import { z } from "zod";
import { isoTime } from "../../authority/issue.ts";
import { listOf, time } from "./answer-schemas.ts";
import { operation } from "./operation.ts";
import { auditQuery, chainQuery, checkpointQuery } from "./schemas.ts";

const fields = {
  seq: z.int().positive(),
  actorKind: z.enum(["operator", "agent", "stranger", "system"]),
  actor: z.string(),
  action: z.string(),
  target: z.string().exactOptional(),
  requestId: z.string().exactOptional(),
  address: z.string().exactOptional(),
  detail: z.record(z.string(), z.unknown()).exactOptional(),
  previousHash: z.string(),
  hash: z.string(),
};

const auditLine = z.strictObject({ ...fields, at: time }).meta({ id: "AuditLine" });
const auditRow = z
  .strictObject({ ...fields, at: z.int().describe("milliseconds since the epoch, as it is hashed") })
  .meta({ id: "AuditRow" });

export const auditOperations = [
  operation({
    id: "listAudit",
    method: "get",
    path: "/v1/audit",
    act: "audit.read",
    summary: "Who did what to which, newest first; with `after` oldest first",
    query: auditQuery,
    answers: { 200: listOf(auditLine) },
    async handle({ store, clock }, { query }) {
      const { since, until, ...filter } = query;
      const now = clock.now();
      const page = await store.listAudit({
        ...filter,
        ...(since === undefined ? {} : { since: pastMoment(since, now) }),
        ...(until === undefined ? {} : { until: pastMoment(until, now) }),
      });
      return {
        status: 200,
        body: { items: page.items.map((row) => ({ ...row, at: isoTime(row.at) })), nextCursor: page.nextCursor },
      };
    },
  }),
  operation({
    id: "readAuditChain",
    method: "get",
    path: "/v1/audit/chain",
    act: "audit.read",
    summary: "The rows as they are hashed, oldest first: for verification and export",
    query: chainQuery,
    answers: { 200: z.strictObject({ rows: z.array(auditRow) }) },
    async handle({ store }, { query: { after, limit } }) {
      return { status: 200, body: { rows: await store.readAuditChain(after, limit) } };
    },
  }),
  operation({
    id: "readAuditCheckpoints",
    method: "get",
    path: "/v1/audit/checkpoints",
    act: "audit.read",
    summary:
      "The signed ends of the chain, oldest first, and the issuers that signed them: for verification and export",
    query: checkpointQuery,
    answers: {
      200: z.strictObject({
        checkpoints: z.array(z.strictObject({ no: z.int().positive(), line: z.string() })),
        issuers: z.array(z.strictObject({ id: z.string(), certificate: z.string() })),
      }),
    },
    async handle({ store, issuers }, { query: { after, limit } }) {
      const intermediates = issuers.rows.filter((row) => row.kind === "intermediate");
      return {
        status: 200,
        body: {
          checkpoints: await store.listCheckpoints(after, limit),
          issuers: intermediates.map((row) => ({ id: row.id, certificate: pemEncode("CERTIFICATE", row.certificate) })),
        },
      };
    },
  }),
];

/** A duration counts back from now. @throws AppError request-invalid */
function pastMoment(value: string, now: number): number {
  const time = /^\d{4}-/.test(value) ? Date.parse(value) : Number.NaN;
  return Number.isNaN(time) ? now - parseDuration(value) : time;
}
