import { z } from "zod";
import { isoTime } from "../../authority/issue.ts";
import { listOf, time } from "./answer-schemas.ts";
import { operation } from "./operation.ts";
import { auditQuery, chainQuery, readMoment } from "./schemas.ts";

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
    summary: "Who did what to which, newest first",
    query: auditQuery,
    answers: { 200: listOf(auditLine) },
    async handle({ store, clock }, { query }) {
      const { after, before, ...filter } = query;
      const now = clock.now();
      const page = await store.listAudit({
        ...filter,
        ...(after === undefined ? {} : { after: readMoment(after, now) }),
        ...(before === undefined ? {} : { before: readMoment(before, now) }),
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
];
