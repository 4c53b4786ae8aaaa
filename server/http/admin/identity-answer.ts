/** An identity as the API shows it: the inventory entry, and beside it what is issued, installed and served. */
import { AppError } from "@newleaf/shared/problems";
import { z } from "zod";
import type { Authority } from "../../authority/authority.ts";
import { type HostStanding, readStandings } from "../../authority/inventory/host-standing.ts";
import { isoTime } from "../../authority/issue.ts";
import type { IdentityRow } from "../../store/identities.ts";
import type { LeafBrief } from "../../store/standings.ts";
import {
  type AnswerOf,
  certificateState,
  count,
  fingerprint,
  hostTime,
  namesAnswer,
  nullable,
  profileName,
  roleName,
  serial,
  time,
} from "./answer-schemas.ts";

const leafAnswer = z.strictObject({ serial, issuedAt: time, notAfter: time, state: certificateState, fingerprint });

const listenerAnswer = z.strictObject({
  name: z.string(),
  address: z.string(),
  serverName: z.string(),
  issued: nullable(fingerprint),
  installed: nullable(fingerprint),
  served: fingerprint,
  servedAt: hostTime,
  state: z.enum(["in-force", "next", "before", "withdrawn", "foreign"]).describe("of what is served"),
});

const identityFields = {
  id: z.string(),
  profile: profileName,
  names: namesAnswer,
  keys: z.array(fingerprint).describe("approved SPKI fingerprints"),
  labels: z.record(z.string(), z.string()),
  owner: nullable(z.string()).describe("who answers for it"),
  notes: nullable(z.string()),
  state: z.enum(["active", "suspended", "removed"]),
  revision: count,
  role: roleName.exactOptional().describe("only of profile operator"),
  leaf: nullable(leafAnswer).describe("the leaf in force"),
  lineage: nullable(z.string()),
  issued: nullable(fingerprint),
  nextFingerprint: nullable(fingerprint).describe("of the leaf that the host holds and is about to install"),
  installed: z.array(
    z.strictObject({ name: z.string(), fingerprint: nullable(fingerprint), nextFingerprint: nullable(fingerprint) }),
  ),
  served: z.array(
    z.strictObject({ name: z.string(), address: z.string(), serverName: z.string(), fingerprint, at: hostTime }),
  ),
  failure: z
    .strictObject({ step: z.string(), message: z.string(), at: hostTime })
    .exactOptional()
    .describe("what the host said went wrong"),
  listeners: z.array(listenerAnswer).describe("the three fingerprints, for each listener that the agent looks at"),
  wrong: z.array(z.string()).describe("what is wrong, a sentence each"),
  mismatchSince: nullable(time).describe("since when something else than the leaf in force is served"),
  reportedAt: nullable(time),
  lastSeen: nullable(time),
};

export const identityAnswer = z.strictObject(identityFields).meta({ id: "Identity" });

export const identityWithWarnings = z
  .strictObject({ ...identityFields, warnings: z.array(z.string()) })
  .meta({ id: "IdentityWithWarnings" });

export async function describeIdentity(
  authority: Authority,
  row: IdentityRow,
): Promise<AnswerOf<typeof identityAnswer>> {
  const [described] = await describeIdentities(authority, [row]);
  if (described === undefined) throw new AppError("internal", "an identity was described as nothing");
  return described;
}

export async function describeIdentities(
  authority: Authority,
  rows: readonly IdentityRow[],
): Promise<readonly AnswerOf<typeof identityAnswer>[]> {
  const standings = await readStandings(authority, rows);
  return rows.flatMap((row, at) => {
    const standing = standings[at];
    return standing === undefined ? [] : [describe(row, standing)];
  });
}

function describe(row: IdentityRow, standing: HostStanding): AnswerOf<typeof identityAnswer> {
  const { leaf, report, next, listeners, wrong } = standing;
  const certificates = report?.report.certificates ?? [];
  const failure = report?.report.failure;
  return {
    id: row.id,
    profile: row.profile,
    names: row.names,
    keys: row.keys,
    labels: row.labels,
    owner: row.owner ?? null,
    notes: row.notes ?? null,
    state: row.state,
    revision: row.revision,
    ...(row.role === null ? {} : { role: row.role }),
    leaf: leaf === null ? null : describeLeaf(leaf),
    lineage: leaf?.lineage ?? null,
    issued: leaf?.fingerprint ?? null,
    nextFingerprint: next.find((of) => of !== null) ?? null,
    installed: certificates.map(({ name, installed }, at) => ({
      name,
      fingerprint: installed,
      nextFingerprint: next[at] ?? null,
    })),
    served: certificates.flatMap(({ name, served }) => served.map((probe) => ({ name, ...probe }))),
    ...(failure === undefined ? {} : { failure }),
    listeners,
    wrong,
    mismatchSince: report?.mismatchSince == null ? null : isoTime(report.mismatchSince),
    reportedAt: report === null ? null : isoTime(report.at),
    lastSeen: row.lastSeenAt === null ? null : isoTime(row.lastSeenAt),
  };
}

function describeLeaf(leaf: LeafBrief): AnswerOf<typeof leafAnswer> {
  return {
    serial: leaf.serial,
    issuedAt: isoTime(leaf.issuedAt),
    notAfter: isoTime(leaf.notAfter),
    state: leaf.state,
    fingerprint: leaf.fingerprint,
  };
}
