/**
 * Two clients that show whether a proxy enforces what it is given: one that must be let in (a CRL that has expired or is missing
 * turns everybody away) and one whose certificate is revoked and who must not (a proxy that lost its `ssl_crl` lets everybody in).
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { pemEncode } from "@newleaf/shared/pem";
import { readGuarded } from "../guarded-open.ts";
import type { ClientCredential, ProbeTarget } from "./handshake.ts";
import { type HttpQuestion, type Visit, visit } from "./visit.ts";

/** Paths of a client's certificate (with its intermediates, if it has any) and key, PEM. */
export interface CanaryFiles {
  readonly certificate: string;
  readonly key: string;
}

export interface CanaryConfig {
  /** `own`: the leaf that the agent speaks with. Null: nobody. */
  readonly good: "own" | CanaryFiles | null;
  readonly revoked: CanaryFiles | null;
  /** HTTP statuses by which the good one has passed. */
  readonly accept: readonly number[];
}

export interface CanaryOptions {
  /** Null when the server does not speak HTTP. */
  readonly http: HttpQuestion | null;
  /** The leaf that the agent speaks with; null when there is none in date. */
  readonly own: ClientCredential | null;
  /** PEM. */
  readonly roots: readonly string[];
  /** Whether the CRLs that the proxy was given list this serial (lower-case hex). */
  readonly isRevoked: (serial: string) => boolean;
  readonly now: number;
  /** Tries before a wrong answer counts, and the pause between them: old workers answer for a moment after a reload. */
  readonly tries?: { readonly count: number; readonly everyMs: number };
  /** How long a refusal is waited for after the handshake where there is no HTTP; default 1 s. */
  readonly graceMs?: number;
  readonly signal?: AbortSignal | undefined;
}

export interface CanaryVerdict {
  /** The good client was let in; null when there is none or it proves nothing. */
  readonly good: boolean | null;
  /** The revoked client was turned away; null when there is none or it proves nothing. */
  readonly revoked: boolean | null;
  /** The first thing that is wrong with the proxy; null when nothing is. */
  readonly failure: {
    readonly outcome: "canary-refused" | "canary-passed" | "unhealthy";
    readonly detail: string;
  } | null;
  /** Why something was not proved, and what to do: one sentence each. */
  readonly warnings: readonly string[];
}

/** nginx answers 400 (and logs 495, 496), others 401 or 403. */
const refusals: ReadonlySet<number> = new Set([400, 401, 403, 495, 496]);
const defaultTries = { count: 3, everyMs: 300 };
const visitTimeoutMs = 5000;
const maxFileBytes = 64 * 1024;
const defaultGraceMs = 1000;
/** Before a request is sent: a request that crosses the alert on the wire would turn it into a reset. */
const httpGraceMs = 150;

/** Connects as both clients. Never throws. */
export async function proveEnforcement(
  probe: ProbeTarget,
  canary: CanaryConfig,
  options: CanaryOptions,
): Promise<CanaryVerdict> {
  const [good, revoked] = await Promise.all([
    canary.good === null ? nothing : letsIn(probe, canary.good, canary.accept, options),
    canary.revoked === null ? nothing : keepsOut(probe, canary.revoked, options),
  ]);
  return {
    good: good.holds,
    revoked: revoked.holds,
    failure: good.failure ?? revoked.failure,
    warnings: [...good.warnings, ...revoked.warnings],
  };
}

interface Half {
  readonly holds: boolean | null;
  readonly failure: CanaryVerdict["failure"];
  readonly warnings: readonly string[];
}

const nothing: Half = { holds: null, failure: null, warnings: [] };
const unproved = (warning: string): Half => ({ ...nothing, warnings: [warning] });

async function letsIn(
  probe: ProbeTarget,
  who: "own" | CanaryFiles,
  accept: readonly number[],
  options: CanaryOptions,
): Promise<Half> {
  const client = who === "own" ? options.own : await readClient(who);
  const name = who === "own" ? "the agent's own leaf" : `the good canary ${who.certificate}`;
  if (client === null) return unproved("canary: the agent has no leaf in date of its own, so nobody could be let in");
  if (typeof client === "string") return unproved(`canary: ${client}`);
  const { serialNumber, validToDate } = new X509Certificate(client.cert);
  if (validToDate.getTime() <= options.now)
    return unproved(`canary: ${name} expired at ${validToDate.toISOString()} and proves nothing: renew it`);
  if (options.isRevoked(serialNumber.toLowerCase()))
    return unproved(`canary: ${name} is revoked and proves nothing: enroll another`);
  const seen = await visitUntil(probe, client, options, (one) => isIn(one, accept));
  if (isIn(seen, accept)) return { ...nothing, holds: true };
  if (seen.kind === "failed" || (seen.kind === "answered" && !refusals.has(seen.status))) {
    const wanted = seen.kind === "answered" ? `, not ${accept.join(" or ")}` : "";
    const detail = `${probe.connect}: asked as ${name}: ${tell(seen)}${wanted}`;
    return { ...nothing, failure: { outcome: "unhealthy", detail } };
  }
  const detail = `${probe.connect} turns a good client away (${name}): ${tell(seen)}. Has a CRL expired, is one missing, or does the server trust other CAs?`;
  return { ...nothing, holds: false, failure: { outcome: "canary-refused", detail } };
}

async function keepsOut(probe: ProbeTarget, who: CanaryFiles, options: CanaryOptions): Promise<Half> {
  const client = await readClient(who);
  if (typeof client === "string") return unproved(`canary: ${client}`);
  const { serialNumber, validToDate } = new X509Certificate(client.cert);
  const name = `the revoked canary ${who.certificate}`;
  const serial = serialNumber.toLowerCase();
  if (validToDate.getTime() <= options.now) {
    const another = "enroll another, export its files and revoke it with newleaf cert revoke --serial";
    return unproved(
      `canary: ${name} expired at ${validToDate.toISOString()}; an expired certificate is refused anyway, so it proves nothing: ${another}`,
    );
  }
  if (!options.isRevoked(serial)) {
    return unproved(
      `canary: ${name} is not on the CRLs the server was given, so it proves nothing: newleaf cert revoke --serial ${serial}, and have crl.pem among files`,
    );
  }
  const seen = await visitUntil(probe, client, options, isOut);
  if (isOut(seen)) return { ...nothing, holds: true };
  if (seen.kind === "failed") return unproved(`canary: ${probe.connect}, asked as ${name}: ${seen.why}`);
  const detail = `${probe.connect} lets a revoked client in (serial ${serial}): ${tell(seen)}. Does the server verify clients, and does it load crl.pem?`;
  return { ...nothing, holds: false, failure: { outcome: "canary-passed", detail } };
}

function isIn(seen: Visit, accept: readonly number[]): boolean {
  return seen.kind === "open" || (seen.kind === "answered" && accept.includes(seen.status));
}

function isOut(seen: Visit): boolean {
  return seen.kind === "refused" || (seen.kind === "answered" && refusals.has(seen.status));
}

async function visitUntil(
  probe: ProbeTarget,
  client: ClientCredential,
  options: CanaryOptions,
  isRight: (seen: Visit) => boolean,
): Promise<Visit> {
  const { count, everyMs } = options.tries ?? defaultTries;
  for (let tried = 1; ; tried += 1) {
    const seen = await visit(probe, {
      client,
      ca: options.roots,
      http: options.http,
      graceMs: options.http === null ? (options.graceMs ?? defaultGraceMs) : httpGraceMs,
      timeoutMs: visitTimeoutMs,
      signal: options.signal,
    });
    if (isRight(seen) || tried >= count || options.signal?.aborted === true) return seen;
    await sleep(everyMs);
  }
}

/** What is wrong with a canary's files; null when nothing is. */
export async function canaryProblem(files: CanaryFiles, now: number): Promise<string | null> {
  const client = await readClient(files);
  if (typeof client === "string") return client;
  const { validToDate } = new X509Certificate(client.cert);
  return validToDate.getTime() > now
    ? null
    : `${files.certificate} expired at ${validToDate.toISOString()} and proves nothing`;
}

/** @returns what is wrong with the files as a sentence, instead */
async function readClient({ certificate, key }: CanaryFiles): Promise<ClientCredential | string> {
  try {
    const read = async (path: string): Promise<string> => (await readGuarded(path, maxFileBytes)).data.toString("utf8");
    const [cert, keyText] = await Promise.all([read(certificate), read(key)]);
    const privateKey = createPrivateKey(keyText);
    if (!new X509Certificate(cert).checkPrivateKey(privateKey)) return `${certificate} and ${key} are no pair`;
    return { cert, key: pemEncode("PRIVATE KEY", privateKey.export({ type: "pkcs8", format: "der" })) };
  } catch (error) {
    return `${certificate} and ${key} cannot be used: ${(error as Error).message}`;
  }
}

function tell(seen: Visit): string {
  switch (seen.kind) {
    case "answered":
      return `HTTP ${seen.status}${seen.title === null ? "" : ` (${seen.title})`}`;
    case "open":
      return "the connection stays open";
    case "refused":
    case "failed":
      return seen.why;
  }
}
