/** The bodies and queries of the admin API. */
import { parseDuration } from "@newleaf/shared/duration";
import { z } from "zod";
import type { Request } from "express";
import { parseQuery } from "../body.ts";

const maxIdentities = 100_000;
const maxPage = 1_000;
const defaultPage = 100;

const text = (max: number) => z.string().min(1).max(max);
const nameList = z.array(text(2048)).max(100);
const names = z.strictObject({
  dns: nameList.default([]),
  ip: nameList.default([]),
  uri: nameList.default([]),
  email: nameList.default([]),
});
const partialNames = z.strictObject({
  dns: nameList.exactOptional(),
  ip: nameList.exactOptional(),
  uri: nameList.exactOptional(),
  email: nameList.exactOptional(),
});
const noNames = { dns: [], ip: [], uri: [], email: [] };
const profile = z.enum(["agent", "gateway", "operator"]);
const role = z.enum(["viewer", "approver", "operator", "admin"]);
const labelText = z
  .string()
  .regex(/^[^\p{Cc}\p{Cf}]*$/u, "has control characters")
  .max(256);
const labels = z.record(labelText.min(1), labelText);
const keys = z.array(text(80)).max(16);
/** One line. */
const line = (max: number) =>
  z
    .string()
    .regex(/^[^\p{Cc}\p{Cf}]*$/u, "has control characters or line breaks")
    .max(max);
/** The search index takes a NUL for the end of its query. */
const search = line(256).min(1);
const owner = line(256);
const notes = line(2000);
export const ttl = z.string().transform((value, context) => {
  try {
    return parseDuration(value);
  } catch (error) {
    context.addIssue({ code: "custom", message: (error as Error).message });
    return z.NEVER;
  }
});

export const identitySchema = z.strictObject({
  id: text(64),
  profile,
  names: names.default(noNames),
  keys: keys.default([]),
  labels: labels.default({}),
  owner: owner.exactOptional(),
  notes: notes.exactOptional(),
});

export const identityPatchSchema = z.strictObject({
  profile: profile.exactOptional(),
  names: partialNames.exactOptional(),
  keys: keys.exactOptional(),
  labels: labels.exactOptional(),
  owner: z.nullable(owner).exactOptional(),
  notes: z.nullable(notes).exactOptional(),
  rearmKeys: z.boolean().exactOptional(),
});

export const inventorySchema = z.strictObject({
  identities: z.array(identitySchema).max(maxIdentities),
  prune: z.boolean().default(false),
  revokeLive: z.boolean().default(false),
});

export const operatorSchema = z.strictObject({
  id: text(64),
  role,
  names: names.default(noNames),
  labels: labels.default({}),
  ttl: ttl.default(3_600_000),
});
export const roleSchema = z.strictObject({ role });

export const tokenSchema = z.strictObject({ identity: text(64), ttl: ttl.default(3_600_000) });
export const grantSchema = z.strictObject({ ttl: ttl.default(86_400_000) });

export const decisionSchema = z.strictObject({
  decision: z.enum(["approve", "deny"]),
  identity: text(64).exactOptional(),
  fingerprint: text(80),
});

export const reasonSchema = z.strictObject({ reason: text(40).default("unspecified") });

export const revocationSchema = z
  .strictObject({
    serial: text(80).exactOptional(),
    lineage: text(64).exactOptional(),
    identity: text(64).exactOptional(),
    key: text(80).exactOptional(),
    issuer: text(64).exactOptional(),
    reason: text(40).default("unspecified"),
    dryRun: z.boolean().default(false),
  })
  .refine(
    ({ serial, lineage, identity, key, issuer }) =>
      [serial, lineage, identity, key, issuer].filter((target) => target !== undefined).length === 1,
    "name exactly one of serial, lineage, identity, key, issuer",
  );

/** A number that no CRL has yet is refused by the use case. */
export const confirmationsQuery = z.strictObject({ number: z.coerce.number().int().min(1) });

export const importSchema = z.strictObject({ crl: text(20_000_000) });

const pageQuery = {
  limit: z.coerce.number().int().min(1).max(maxPage).default(defaultPage),
  cursor: text(512).exactOptional(),
};

export const pageSchema = z.strictObject(pageQuery);

/** A duration from now (`7d`) or an ISO 8601 time. */
const moment = text(40);

export const identityQuery = z.strictObject({
  ...pageQuery,
  state: z.enum(["active", "suspended", "removed"]).exactOptional(),
  profile: z.enum(["agent", "gateway", "operator", "service"]).exactOptional(),
  label: text(520).exactOptional(),
  expiresBefore: moment.exactOptional(),
  q: search.exactOptional(),
  sort: z.enum(["id", "-id", "notAfter", "-notAfter", "lastSeen", "-lastSeen"]).exactOptional(),
});

export const certificateQuery = z.strictObject({
  ...pageQuery,
  identity: text(64).exactOptional(),
  state: z.enum(["pending", "current", "superseded", "replaced", "held", "revoked", "expired"]).exactOptional(),
  profile: z.enum(["agent", "gateway", "operator", "service"]).exactOptional(),
  expiresBefore: moment.exactOptional(),
  lineage: text(64).exactOptional(),
  key: text(80).exactOptional(),
  label: text(520).exactOptional(),
  q: search.exactOptional(),
  sort: z.enum(["notAfter", "-notAfter", "issuedAt", "-issuedAt", "serial", "-serial"]).exactOptional(),
});

export const lineageQuery = z.strictObject({
  ...pageQuery,
  identity: text(64).exactOptional(),
  state: z.enum(["active", "locked", "ended"]).exactOptional(),
});

export const tokenQuery = z.strictObject({ ...pageQuery, identity: text(64).exactOptional() });
export const approvalQuery = z.strictObject({
  ...pageQuery,
  state: z.enum(["pending", "issued", "denied"]).exactOptional(),
});

export const unvouchedQuery = z.strictObject({
  ...pageQuery,
  state: z.enum(["open", "adopted", "revoked"]).exactOptional(),
});

export const backupSchema = z.strictObject({
  directory: text(4096)
    .describe("absolute path of a directory on the service's host; the configured one without it")
    .exactOptional(),
  recipients: z
    .array(text(2048))
    .max(20)
    .describe("age recipients it is encrypted for; the configured ones without it")
    .exactOptional(),
});

export const auditQuery = z.strictObject({
  ...pageQuery,
  actor: text(64).exactOptional(),
  action: text(64).describe("one action, or with a dot at its end all that begin so: `certificate.`").exactOptional(),
  target: text(128).exactOptional(),
  identity: text(64).describe("rows whose target it is, and those whose detail names it").exactOptional(),
  requestId: text(64).exactOptional(),
  since: moment.describe("ISO 8601, or a duration ago: `24h`").exactOptional(),
  until: moment.describe("ISO 8601, or a duration ago; that moment itself is left out").exactOptional(),
  after: z.coerce
    .number()
    .int()
    .min(0)
    .describe("rows after this number, oldest first: to follow the log")
    .exactOptional(),
});

export const checkpointQuery = z.strictObject({
  after: z.coerce.number().int().min(0).default(0),
  limit: z.coerce.number().int().min(1).max(1_000).default(1_000),
});

export const chainQuery = z.strictObject({
  after: z.coerce.number().int().min(0).default(0),
  limit: z.coerce.number().int().min(1).max(5_000).default(1_000),
});

/** A duration counts from now; anything else is a time. @throws AppError request-invalid */
export function readMoment(value: string, now: number): number {
  const time = /^\d{4}-/.test(value) ? Date.parse(value) : Number.NaN;
  return Number.isNaN(time) ? now + parseDuration(value) : time;
}

export function pageOf(request: Request): z.output<typeof pageSchema> {
  return parseQuery(pageSchema, request);
}
