import { AppError } from "@newleaf/shared/problems";
import { z } from "zod";
import { isoTime } from "../../authority/issue.ts";
import { releaseLineage } from "../../authority/lineage.ts";
import type { LineageRow } from "../../store/lineages.ts";
import { type AnswerOf, count, identityId, listOf, nullable, time } from "./answer-schemas.ts";
import { certificateAnswer, describeCertificate } from "./certificates.ts";
import { operation } from "./operation.ts";
import { lineageQuery } from "./schemas.ts";

const lineageFields = {
  id: z.string(),
  identity: identityId,
  state: z.enum(["active", "locked", "ended"]),
  generation: count,
  createdAt: time,
  lockedAt: nullable(time),
  evidence: nullable(z.record(z.string(), z.unknown())).describe("what was seen when it locked"),
};

const lineageAnswer = z.strictObject(lineageFields).meta({ id: "Lineage" });
const lineageStory = z
  .strictObject({ ...lineageFields, certificates: z.array(certificateAnswer) })
  .meta({ id: "LineageWithCertificates" });

export const lineageOperations = [
  operation({
    id: "listLineages",
    method: "get",
    path: "/v1/lineages",
    act: "lineages.read",
    summary: "The chains of certificates that renewed one another",
    query: lineageQuery,
    answers: { 200: listOf(lineageAnswer) },
    async handle({ store }, { query }) {
      const page = await store.listLineages(query);
      return { status: 200, body: { items: page.items.map(describeLineage), nextCursor: page.nextCursor } };
    },
  }),
  operation({
    id: "getLineage",
    method: "get",
    path: "/v1/lineages/{id}",
    act: "lineages.read",
    summary: "One lineage with its certificates, oldest first",
    answers: { 200: lineageStory },
    problems: ["not-found"],
    async handle({ store, clock }, { param }) {
      const id = param("id");
      const row = await store.findLineage(id);
      if (row === null) throw new AppError("not-found", `There is no lineage ${id.slice(0, 40)}`);
      const now = clock.now();
      const certificates = await store.listLineageCertificates(id);
      return {
        status: 200,
        body: {
          ...describeLineage(row),
          certificates: certificates.map((leaf) => describeCertificate(leaf, now)),
        },
      };
    },
  }),
  operation({
    id: "releaseLineage",
    method: "post",
    path: "/v1/lineages/{id}/release",
    act: "lineages.release",
    summary: "Unlocks a lineage: the current generation is the rightful holder's",
    answers: { 200: lineageAnswer },
    problems: ["not-found", "conflict"],
    async handle(authority, { caller, param }) {
      return { status: 200, body: describeLineage(await releaseLineage(authority, caller, param("id"))) };
    },
  }),
];

function describeLineage(row: LineageRow): AnswerOf<typeof lineageAnswer> {
  return {
    id: row.id,
    identity: row.identity,
    state: row.state,
    generation: row.newestGeneration,
    createdAt: isoTime(row.createdAt),
    lockedAt: row.lockedAt === null ? null : isoTime(row.lockedAt),
    evidence: row.evidence,
  };
}
