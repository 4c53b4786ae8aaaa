import { z } from "zod";
import { attentionKinds } from "../../authority/status/attention.ts";
import { isoTime } from "../../authority/issue.ts";
import { readStatus, type Status } from "../../authority/status/status.ts";
import { type AnswerOf, certificateState, count, issuerState, nullable, profileName, time } from "./answer-schemas.ts";
import { operation } from "./operation.ts";

const attentionAnswer = z
  .strictObject({
    kind: z.enum(attentionKinds),
    urgency: z.enum(["now", "soon", "note"]),
    count: count.describe("exact, also where not all are named"),
    summary: z.string(),
    command: z.string().describe("that helps; words in capitals stand for a subject"),
    subjects: z.array(
      z.strictObject({
        id: z.string().describe("identity, request or issuer"),
        since: nullable(time),
        detail: nullable(z.string()),
      }),
    ),
  })
  .meta({ id: "Attention" });

const statusAnswer = z
  .strictObject({
    time,
    attention: z.array(attentionAnswer).describe("what needs a hand, the most pressing first; empty when all is well"),
    certificates: z.array(
      z.strictObject({
        state: certificateState,
        profile: profileName,
        count,
      }),
    ),
    bundleVersion: count,
    issuers: z.array(
      z.strictObject({
        id: z.string(),
        kind: z.enum(["root", "intermediate"]),
        state: issuerState,
        notAfter: time,
        crl: nullable(z.strictObject({ number: count, thisUpdate: time, nextUpdate: time })),
      }),
    ),
  })
  .meta({ id: "Status" });

export const statusOperations = [
  operation({
    id: "getStatus",
    method: "get",
    path: "/v1/status",
    act: "status.read",
    summary: "What needs a hand, then how many of what",
    answers: { 200: statusAnswer },
    async handle(authority) {
      return { status: 200, body: describeStatus(await readStatus(authority)) };
    },
  }),
];

function describeStatus(status: Status): AnswerOf<typeof statusAnswer> {
  return {
    time: isoTime(status.time),
    attention: status.attention.map(({ subjects, ...about }) => ({
      ...about,
      subjects: subjects.map(({ since, ...subject }) => ({
        ...subject,
        since: since === null ? null : isoTime(since),
      })),
    })),
    certificates: status.certificates,
    bundleVersion: status.bundleVersion,
    issuers: status.issuers.map(({ row, crl }) => ({
      id: row.id,
      kind: row.kind,
      state: row.state,
      notAfter: isoTime(row.notAfter),
      crl:
        crl === null
          ? null
          : { number: crl.number, thisUpdate: isoTime(crl.thisUpdate), nextUpdate: isoTime(crl.nextUpdate) },
    })),
  };
}
