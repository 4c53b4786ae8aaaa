import { AppError } from "@newleaf/shared/problems";
import { z } from "zod";
import { isoTime } from "../../authority/issue.ts";
import { lineageStory } from "../../authority/lineage/story.ts";
import { releaseLineage } from "../../authority/lineage/lineage.ts";
import type { LineageRow } from "../../store/lineages.ts";
import { type AnswerOf, count, fingerprint, identityId, listOf, nullable, serial, time } from "./answer-schemas.ts";
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
const happeningAnswer = z
  .strictObject({
    at: time,
    event: z.string().describe("as the audit log names it; also certificate.superseded and certificate.last-used"),
    serial: nullable(serial),
    generation: nullable(count),
    address: nullable(z.string()),
    actor: nullable(z.string()),
    key: nullable(fingerprint),
    note: nullable(z.string()),
  })
  .meta({ id: "Happening" });

const lineageStoryAnswer = z
  .strictObject({
    ...lineageFields,
    certificates: z.array(certificateAnswer),
    story: z.array(happeningAnswer).describe("what happened, oldest first"),
  })
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
    answers: { 200: lineageStoryAnswer },
    problems: ["not-found"],
    async handle(authority, { param }) {
      const { store, clock } = authority;
      const id = param("id");
      const row = await store.findLineage(id);
      if (row === null) throw new AppError("not-found", `There is no lineage ${id.slice(0, 40)}`);
      const now = clock.now();
      const certificates = await store.listLineageCertificates(id);
      const story = await lineageStory(authority, id, certificates);
      return {
        status: 200,
        body: {
          ...describeLineage(row),
          certificates: certificates.map((leaf) => describeCertificate(leaf, now)),
          story: story.map(({ at, ...happening }) => ({ at: isoTime(at), ...happening })),
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
