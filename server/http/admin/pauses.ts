import { z } from "zod";
import { isoTime } from "../../authority/issue.ts";
import { liftPauses, listPauses } from "../../authority/herd/pauses.ts";
import type { PauseRow } from "../../store/pauses.ts";
import { type AnswerOf, count, fingerprint, identityId, listOf, nullable, serial, time } from "./answer-schemas.ts";
import { operation } from "./operation.ts";
import { pageSchema } from "./schemas.ts";

const pauseAnswer = z
  .strictObject({
    identity: identityId,
    serial: nullable(serial).describe("the leaf that is paused; null for an enrollment"),
    key: nullable(fingerprint).describe("the key of the enrollment that is paused; null for a leaf"),
    code: z.string().describe("the problem code it was refused with"),
    reason: z.string().describe("what the refusal said"),
    since: time,
    until: time,
    refusals: count.describe("those before the pause and those since"),
    address: z.string().describe("where the last refused request came from"),
  })
  .meta({ id: "Pause" });

const pauseQuery = z.strictObject({ ...pageSchema.shape, identity: z.string().min(1).max(64).exactOptional() });

export const pauseOperations = [
  operation({
    id: "listPauses",
    method: "get",
    path: "/v1/pauses",
    act: "pauses.read",
    summary: "Clients that are answered at once because the same request was refused again and again, newest first",
    query: pauseQuery,
    answers: { 200: listOf(pauseAnswer) },
    async handle(authority, { query }) {
      const page = await listPauses(authority, query);
      return { status: 200, body: { items: page.items.map(describePause), nextCursor: page.nextCursor } };
    },
  }),
  operation({
    id: "liftPauses",
    method: "delete",
    path: "/v1/pauses/{identity}",
    act: "pauses.lift",
    summary: "Has everything of this identity that is paused looked at again",
    answers: { 204: null },
    problems: ["not-found"],
    async handle(authority, { caller, param }) {
      await liftPauses(authority, caller, param("identity"));
      return { status: 204 };
    },
  }),
];

function describePause(pause: PauseRow): AnswerOf<typeof pauseAnswer> {
  const { identity, serial, key, code, reason, since, until, refusals, address } = pause;
  return { identity, serial, key, code, reason, since: isoTime(since), until: isoTime(until), refusals, address };
}
