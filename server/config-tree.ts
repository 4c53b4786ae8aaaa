/** The keys of newleaf.yml: their schemas and defaults. Durations are milliseconds once parsed; null is off. */
import { isIP } from "node:net";
import { isAbsolute } from "node:path";
import { formatDuration, parseDuration } from "@newleaf/shared/duration";
import { type KeyAlgorithm, keyAlgorithms } from "@newleaf/shared/key-algorithm";
import { z } from "zod";
import { defaultProfiles, type LeafProfile } from "./ca/profile.ts";
import { parseCron } from "./jobs/cron-time.ts";

export interface Address {
  readonly host: string;
  readonly port: number;
}

const durationNeeded = "must be a duration, a whole number and a unit: 90s, 15m, 12h, 30d";
const duration = z.string({ error: durationNeeded }).transform((text, context) => {
  try {
    return parseDuration(text);
  } catch (error) {
    context.addIssue({ code: "custom", message: (error as Error).message });
    return z.NEVER;
  }
});
const positiveDuration = duration.refine((ms) => ms > 0, "must be longer than nothing");
const addressNeeded = "must be host:port, such as 127.0.0.1:8443; only public and ops can be off (null)";
const address = z.string({ error: addressNeeded }).transform((text, context): Address => {
  const parsed = parseAddress(text);
  if (parsed !== null) return parsed;
  context.addIssue({
    code: "custom",
    message: `"${text}" is not an address; write host:port, such as 127.0.0.1:8443 or [::1]:8443`,
  });
  return z.NEVER;
});
const host = z.string().refine(isHost, "must be DNS names in lower case or IP addresses");
const publicUrl = z
  .string()
  .refine(
    isPublicUrl,
    "must be an http:// URL without a query (RFC 5280 §8: fetching a CRL over TLS could need that CRL), for example http://ca.internal:8080",
  )
  .transform((text) => text.replace(/\/+$/, ""));

const pathNeeded = "must be an absolute path, such as /mnt/elsewhere/newleaf, or null";
const absolutePath = z.string({ error: pathNeeded }).refine((path) => isAbsolute(path), pathNeeded);
const scheduleNeeded = 'must be a cron expression of five fields, such as "17 3 * * *" (every night at 3:17), or null';
const schedule = z.string({ error: scheduleNeeded }).refine(isCron, scheduleNeeded);
const syslogNeeded = "must be udp://host:port or tcp://host:port, or null";
const syslogUrl = z.string({ error: syslogNeeded }).regex(/^(udp|tcp):\/\/[^/\s]+:\d{1,5}$/, syslogNeeded);

const keepNeeded = "must be a number of backups from 1 to 1000";
const day = 86_400_000;

/** Every key of newleaf.yml with its default. */
export const tree = z.strictObject({
  caName: z.string().trim().min(1).max(40).prefault("Newleaf"),
  hosts: z.array(host).min(1).prefault(["localhost"]),
  publicUrl: publicUrl.optional(),
  listen: section({
    agents: address.prefault("127.0.0.1:8443"),
    enrollment: address.prefault("127.0.0.1:8444"),
    admin: address.prefault("127.0.0.1:8445"),
    public: address.nullable().prefault("127.0.0.1:8080"),
    ops: address.nullable().prefault("127.0.0.1:9464"),
  }),
  tls: section({ minVersion: z.enum(["1.3", "1.2"]).prefault("1.3") }),
  profiles: section({
    agent: profileSection(defaultProfiles.agent),
    gateway: profileSection(defaultProfiles.gateway),
    operator: profileSection(defaultProfiles.operator),
  }),
  renewal: section({
    at: z.number().min(0.05).max(0.95).prefault(0.6667),
    spread: z.number().min(0).max(0.9).prefault(0.1),
  }),
  lineage: section({ overlap: duration.prefault("24h") }),
  crl: section({ lifetime: positiveDuration.prefault("14d"), interval: positiveDuration.prefault("1h") }),
  journal: absolutePath.nullable().prefault(null),
  backup: section({
    schedule: schedule.nullable().prefault("17 3 * * *"),
    directory: absolutePath.nullable().prefault(null),
    keep: z.int().min(1, keepNeeded).max(1000, keepNeeded).prefault(7),
    recipients: z.array(z.string().regex(/^age1[0-9a-z]{20,}$/, "must be age recipients: age1…")).prefault([]),
  }),
  audit: section({
    checkpoints: section({
      interval: positiveDuration.prefault("1h"),
      file: absolutePath.nullable().prefault(null),
      syslog: syslogUrl.nullable().prefault(null),
    }),
  }),
  retention: section({
    expired: duration
      .refine((ms) => ms >= day, "must be 1d or longer, or null: keep them for ever")
      .nullable()
      .prefault("400d"),
  }),
  metrics: section({ perIdentityMax: z.int().min(0).max(100_000).prefault(1000) }),
  changes: section({ maxHeld: z.int().min(0).max(100_000).prefault(2000) }),
  log: section({ level: z.enum(["debug", "info", "warn", "error"]).prefault("info") }),
});

function isCron(text: string): boolean {
  try {
    parseCron(text);
    return true;
  } catch {
    return false;
  }
}

function section<Shape extends z.core.$ZodLooseShape>(shape: Shape) {
  // The keys bring their own defaults: an empty section, or one that is written without content, is complete.
  return z.preprocess((value) => value ?? {}, z.strictObject(shape));
}

function profileSection(profile: LeafProfile) {
  return section({
    validity: positiveDuration.prefault(formatDuration(profile.validity)),
    backdate: duration.prefault(formatDuration(profile.backdate)),
    keyReuse: z.boolean().prefault(profile.keyReuse),
    approvals: z.int().min(1).max(2).prefault(profile.approvals),
    keys: z
      .array(z.enum([...keyAlgorithms] as [KeyAlgorithm, ...KeyAlgorithm[]]))
      .min(1)
      .prefault([...profile.keys]),
  });
}

/** host:port, an IPv6 address in brackets; null when it is not one. */
export function parseAddress(text: string): Address | null {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})$/.exec(text);
  const name = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (name === undefined || port > 65535 || (match?.[1] !== undefined && isIP(name) !== 6)) return null;
  return { host: name, port };
}

/** A DNS name in lower case, or an IP address. */
export function isHost(text: string): boolean {
  if (isIP(text) !== 0) return true;
  return text.length <= 253 && /^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/.test(text);
}

export function isPublicUrl(text: string): boolean {
  const url = URL.parse(text);
  return (
    url !== null &&
    url.protocol === "http:" &&
    url.search === "" &&
    url.hash === "" &&
    url.username === "" &&
    /^[\x21-\x7e]+$/.test(text)
  );
}
