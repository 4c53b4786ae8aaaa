import { z } from "zod";
import { type BackupSummary, createBackup } from "../../authority/backups.ts";
import { isoTime } from "../../authority/issue.ts";
import { type AnswerOf, count, listOf, nullable, time } from "./answer-schemas.ts";
import { operation } from "./operation.ts";
import { backupSchema } from "./schemas.ts";

const backupAnswer = z
  .strictObject({
    name: z.string(),
    path: z.string().describe("directory on the service's host"),
    createdAt: time,
    version: z.string().describe("of the Newleaf that made it"),
    schema: count,
    size: count.describe("octets of all its files"),
    encrypted: z.boolean(),
    holdsKeys: z.boolean().describe("whether the issuing keys are in it: only in an encrypted one"),
    certificates: count,
    audit: z.strictObject({ seq: count, hash: z.string() }).describe("the end of the audit chain in it"),
    crls: z.record(z.string(), count).describe("number of the newest CRL by issuer"),
    bundleVersion: count,
    journal: nullable(z.strictObject({ journal: z.string(), n: count, hash: z.string() })).describe(
      "from where a restore replays the journal",
    ),
  })
  .meta({ id: "Backup" });

export const backupOperations = [
  operation({
    id: "listBackups",
    method: "get",
    path: "/v1/backups",
    act: "backups.read",
    summary: "Complete backups in the configured directory, newest first",
    answers: { 200: listOf(backupAnswer) },
    async handle({ backups }) {
      return { status: 200, body: { items: (await backups.list()).map(describe), nextCursor: null } };
    },
  }),
  operation({
    id: "createBackup",
    method: "post",
    path: "/v1/backups",
    act: "backups.create",
    summary: "Makes a backup now and answers when it is complete and on disk",
    body: backupSchema,
    answers: { 201: backupAnswer },
    problems: ["conflict"],
    async handle(authority, { caller, body }) {
      return { status: 201, body: describe(await createBackup(authority, caller, body)) };
    },
  }),
];

function describe({ createdAt, ...rest }: BackupSummary): AnswerOf<typeof backupAnswer> {
  return { ...rest, createdAt: isoTime(createdAt) };
}
