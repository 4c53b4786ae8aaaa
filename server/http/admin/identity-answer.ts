/** An identity as the API shows it: the inventory entry, and beside it what is issued, installed and served. */
import type { CertificateReport } from "@newleaf/shared/api";
import { z } from "zod";
import type { Authority } from "../../authority/authority.ts";
import { isoTime } from "../../authority/issue.ts";
import type { CertificateRow } from "../../store/certificates.ts";
import type { IdentityRow } from "../../store/identities.ts";
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

const leafAnswer = z.strictObject({ serial, notAfter: time, state: certificateState, fingerprint });

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
  const { store, clock } = authority;
  const usable = await store.listUsable(row.id, clock.now());
  const [inForce] = usable;
  const report = await store.findReport(row.id);
  const certificates = report?.report.certificates ?? [];
  const next = certificates.map((certificate) => nextOf(certificate, usable));
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
    leaf: inForce === undefined ? null : describeLeaf(inForce),
    lineage: inForce?.lineage ?? null,
    issued: inForce?.fingerprint ?? null,
    nextFingerprint: next.find((of) => of !== null) ?? null,
    installed: certificates.map(({ name, installed }, at) => ({
      name,
      fingerprint: installed,
      nextFingerprint: next[at] ?? null,
    })),
    served: certificates.flatMap(({ name, served }) => served.map((probe) => ({ name, ...probe }))),
    ...(report?.report.failure === undefined ? {} : { failure: report.report.failure }),
    lastSeen: row.lastSeenAt === null ? null : isoTime(row.lastSeenAt),
  };
}

function describeLeaf({
  serial: of,
  notAfter,
  state,
  fingerprint: print,
}: CertificateRow): AnswerOf<typeof leafAnswer> {
  return { serial: of, notAfter: isoTime(notAfter), state, fingerprint: print };
}

/**
 * The leaf that the host holds and is about to install: who pins leaves has to know it before the switch. It is the host's word, so
 * it counts only as long as it is a leaf that this service issued to the identity and that is still good.
 */
function nextOf({ installed, nextFingerprint }: CertificateReport, usable: readonly CertificateRow[]): string | null {
  if (nextFingerprint === undefined || nextFingerprint === installed) return null;
  return usable.some(({ fingerprint: of }) => of === nextFingerprint) ? nextFingerprint : null;
}
