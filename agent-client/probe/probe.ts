import { X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import type { Clock } from "@newleaf/shared/clock";
import { fingerprint } from "@newleaf/shared/fingerprint";
import { pemEncode } from "@newleaf/shared/pem";
import { type CanaryConfig, type CanaryVerdict, proveEnforcement } from "./canary.ts";
import { type ClientCredential, HandshakeError, type ProbeTarget, shakeHands, type Shown } from "./handshake.ts";
import { healthProblem, type HttpCheck } from "./health.ts";
import { ChainError, followChain } from "../install/chain.ts";

export { startTlsProtocols, type StartTls } from "./start-tls.ts";
export { type ClientCredential, parseEndpoint, type ProbeTarget } from "./handshake.ts";

/** What is proved at one address, beyond who is presented there. */
export interface ProofTarget extends ProbeTarget {
  /** What a healthy server answers over HTTP. */
  readonly http?: HttpCheck;
  readonly canary?: CanaryConfig;
}

export type ProbeAnswer =
  | { readonly fingerprint: string; readonly leaf: Buffer; readonly protocol: string }
  /** `reachable`: somebody accepted the connection, so it is TLS (or the dialogue before it) that failed. */
  | { readonly error: string; readonly reachable: boolean };

/** One handshake over a fresh connection without a session: what does the server present now? Never throws. */
export async function probeOnce(
  probe: ProbeTarget & { readonly timeoutMs: number },
  signal?: AbortSignal,
): Promise<ProbeAnswer> {
  try {
    const { leaf, protocol } = await shakeHands(probe, { timeoutMs: probe.timeoutMs, signal });
    return { fingerprint: fingerprint(leaf.raw), leaf: leaf.raw, protocol };
  } catch (error) {
    if (error instanceof HandshakeError) return { error: error.message, reachable: error.reachable };
    return { error: error instanceof Error ? error.message : String(error), reachable: false };
  }
}

export interface Expectation {
  /** `sha256:…` of the leaf that should be served. */
  readonly expected: string;
  /** `sha256:…` of the leaf served before, to tell `old` from `other`; null when there was none. */
  readonly previous: string | null;
  /** DER of the deployed roots, for the verifying handshake. */
  readonly roots: readonly Buffer[];
  /** Default 15 s. */
  readonly timeoutMs?: number;
  /** When it counts as steady; default 8 handshakes in a row over at least 500 ms, one each 100 ms. */
  readonly steady?: { readonly handshakes: number; readonly overMs: number; readonly everyMs: number };
  readonly signal?: AbortSignal;
  /** The leaf that the agent speaks with, for whatever demands a client certificate; null or absent: none is in date. */
  readonly client?: ClientCredential | null;
  /** Whether the CRLs that the proxy was given list this serial (lower-case hex); default: none does. */
  readonly isRevoked?: (serial: string) => boolean;
}

export interface ProbeVerdict {
  /**
   * `served`: the expected leaf, steadily, and a verifying handshake holds. `unverified`: steadily, but it does not verify
   * (missing intermediate, wrong name …). `old`: healthy, still the previous leaf (or flapping between the two). `other`: some
   * other leaf. `broken`: no handshake. `unhealthy`: served and verified, but the HTTP health request fails. `canary-refused`: a
   * client that should pass is turned away. `canary-passed`: a revoked client gets in.
   */
  readonly outcome:
    | "served"
    | "old"
    | "other"
    | "broken"
    | "unverified"
    | "unhealthy"
    | "canary-refused"
    | "canary-passed";
  /** `sha256:…` of the leaf seen last; null when none was. */
  readonly fingerprint: string | null;
  /** One line for logs and status. */
  readonly detail: string;
  readonly handshakes: number;
  /** False when nobody accepted the last connection: the server is down rather than misconfigured. */
  readonly reachable: boolean;
  /** When it was seen. */
  readonly at: number;
  /** What the canaries came to; absent when there are none or it did not come to that. */
  readonly canary?: CanaryVerdict;
}

const defaultTimeoutMs = 15_000;
/** Right after a reload answers change old, new, old, new for up to 163 ms (measured with nginx and HAProxy): one proves nothing. */
const defaultSteady = { handshakes: 8, overMs: 500, everyMs: 100 };
const handshakeTimeoutMs = 5000;
/**
 * A server that accepts connections and fails every handshake is not going to recover by itself, and every second of it is an
 * outage: the way back should not wait for the whole timeout. One that refuses connections may still be starting.
 */
const brokenAfterMs = 3000;
const brokenInRow = 3;
/** A stranger may call itself anything, as long as its certificate may be. */
const maxSubject = 200;

/**
 * Polls until the expected leaf is steadily served, then lets OpenSSL verify it against the deployed roots with the host name;
 * sends the canaries and asks for health where that is configured; or says what is served instead. Never throws. Intervals are measured by the monotonic clock; `clock` only dates the verdict.
 */
export async function probeServed(probe: ProofTarget, expectation: Expectation, clock: Clock): Promise<ProbeVerdict> {
  const { timeoutMs = defaultTimeoutMs, steady = defaultSteady, signal } = expectation;
  const watch = startWatch(expectation.expected);
  const deadline = performance.now() + timeoutMs;
  // A run that has begun before the deadline may be finished.
  const lastCall = deadline + steady.overMs + steady.handshakes * steady.everyMs;
  for (;;) {
    const answer = await probeOnce({ ...probe, timeoutMs: handshakeTimeoutMs }, signal);
    const at = performance.now();
    watch.note(answer, at);
    if (watch.run >= steady.handshakes && at - watch.runSince >= steady.overMs) {
      const verdict = await verify(probe, expectation, { handshakes: watch.handshakes, at: clock.now() });
      return verdict.outcome === "served" ? useIt(probe, expectation, verdict) : verdict;
    }
    const over = signal?.aborted === true || at >= (watch.run > 0 ? lastCall : deadline);
    const hopeless = watch.failingSince !== null && at - watch.failingSince >= brokenAfterMs;
    if (over || hopeless) return verdictOf(watch, expectation, clock.now());
    await sleep(steady.everyMs);
  }
}

type Leaf = Extract<ProbeAnswer, { fingerprint: string }>;
type Failure = Extract<ProbeAnswer, { error: string }>;

interface Watch {
  handshakes: number;
  /** How many answers in a row were the expected leaf, and since when. */
  run: number;
  runSince: number;
  /** How many in a row were failures, and since when of the kind that does not pass by itself. */
  failures: number;
  failingSince: number | null;
  /** The last leaf seen, the last that was not the expected one, and the last failure. */
  lastLeaf: Leaf | null;
  lastWrong: Leaf | null;
  lastFailure: Failure | null;
  note(answer: ProbeAnswer, at: number): void;
}

function startWatch(expected: string): Watch {
  return {
    handshakes: 0,
    run: 0,
    runSince: 0,
    failures: 0,
    failingSince: null,
    lastLeaf: null,
    lastWrong: null,
    lastFailure: null,
    note(answer, at) {
      const right = "fingerprint" in answer && answer.fingerprint === expected;
      this.handshakes += 1;
      if (right && this.run === 0) this.runSince = at;
      this.run = right ? this.run + 1 : 0;
      if ("error" in answer) {
        this.failures += 1;
        this.failingSince = answer.reachable ? (this.failingSince ?? at) : null;
        this.lastFailure = answer;
      } else {
        this.failures = 0;
        this.failingSince = null;
        this.lastLeaf = answer;
        if (!right) this.lastWrong = answer;
      }
    },
  };
}

function verdictOf(watch: Watch, { expected, previous }: Expectation, at: number): ProbeVerdict {
  const base = { handshakes: watch.handshakes, at };
  const { lastLeaf, lastWrong, lastFailure } = watch;
  // One failure among good answers (a listen queue that was full for a moment) is no reason to roll a set back.
  const broken = watch.failures >= brokenInRow || lastLeaf === null || lastWrong === null;
  if (lastFailure !== null && broken) {
    const { error, reachable } = lastFailure;
    return { ...base, outcome: "broken", fingerprint: lastLeaf?.fingerprint ?? null, detail: error, reachable };
  }
  const seen = { ...base, fingerprint: lastLeaf?.fingerprint ?? null, reachable: true };
  if (lastWrong === null) {
    return { ...seen, outcome: "old", detail: `${short(expected)} is served, but not yet steadily` };
  }
  if (lastWrong.fingerprint === previous) {
    const detail = `still served: ${short(previous)}, the leaf before, instead of ${short(expected)}`;
    return { ...seen, outcome: "old", detail };
  }
  const subject = new X509Certificate(lastWrong.leaf).subject.replaceAll("\n", ", ").slice(0, maxSubject);
  const detail = `served is ${short(lastWrong.fingerprint)} (${subject}), a leaf that is not ours, instead of ${short(expected)}: is connect the right server?`;
  return { ...seen, outcome: "other", detail };
}

/** The last handshake: what a client that trusts only the deployed roots would say. */
async function verify(
  probe: ProbeTarget,
  expectation: Expectation,
  seen: { handshakes: number; at: number },
): Promise<ProbeVerdict> {
  const { expected, roots, signal } = expectation;
  const base = { handshakes: seen.handshakes + 1, at: seen.at, reachable: true };
  try {
    const ca = roots.map((der) => pemEncode("CERTIFICATE", der));
    const shown = await shakeHands(probe, { timeoutMs: handshakeTimeoutMs, ca, signal });
    const now = fingerprint(shown.leaf.raw);
    if (now !== expected) {
      const detail = `${short(expected)} was served, then ${short(now)} again`;
      return { ...base, outcome: now === expectation.previous ? "old" : "other", fingerprint: now, detail };
    }
    const distrust =
      shown.distrust === undefined ? judgeOurselves(shown, probe.serverName, roots, seen.at) : shown.distrust;
    if (distrust === null) {
      const detail = `served: ${short(expected)}, ${base.handshakes} handshakes, verified for ${probe.serverName} (${shown.protocol})`;
      return { ...base, outcome: "served", fingerprint: expected, detail };
    }
    const detail = `${short(expected)} is served, but does not verify for ${probe.serverName}: ${distrust}${remedy(distrust)}`;
    return { ...base, outcome: "unverified", fingerprint: expected, detail };
  } catch (error) {
    const reachable = error instanceof HandshakeError && error.reachable;
    return { ...base, outcome: "broken", fingerprint: null, detail: String(error), reachable };
  }
}

/** Served and verified: are the right clients let in, the wrong ones kept out, and does it answer? In this order: a client that is turned away gets no health. */
async function useIt(probe: ProofTarget, expectation: Expectation, served: ProbeVerdict): Promise<ProbeVerdict> {
  const { http, canary } = probe;
  const { client = null, isRevoked = () => false, signal } = expectation;
  const roots = expectation.roots.map((der) => pemEncode("CERTIFICATE", der));
  let verdict = served;
  if (canary !== undefined) {
    const seen = await proveEnforcement(probe, canary, {
      http: http ?? null,
      own: client,
      roots,
      isRevoked,
      now: served.at,
      signal,
    });
    verdict = { ...served, ...seen.failure, canary: seen };
  }
  if (http === undefined || verdict.outcome !== "served") return verdict;
  const problem = await healthProblem(probe, http, { client, roots, signal });
  if (problem !== null) return { ...verdict, outcome: "unhealthy", detail: problem };
  return { ...verdict, detail: `${verdict.detail}, healthy${canary === undefined ? "" : ", clients enforced"}` };
}

/**
 * For TLS 1.2 servers that refused us for want of a client certificate: the handshake ended before OpenSSL's judgement was
 * given out, but the certificates are there. The same rules as in the preflight.
 */
function judgeOurselves(shown: Shown, serverName: string, roots: readonly Buffer[], now: number): string | null {
  const chain: Buffer[] = [];
  for (let next = shown.leaf.issuerCertificate; next !== undefined; next = next.issuerCertificate) {
    if (chain.some((der) => der.equals(next.raw)) || roots.some((der) => der.equals(next.raw))) break;
    chain.push(next.raw);
  }
  try {
    followChain(shown.leaf.raw, chain, roots, now);
  } catch (error) {
    if (error instanceof ChainError) return error.message;
    throw error;
  }
  if (shown.leaf.validToDate.getTime() <= now) return "CERT_HAS_EXPIRED";
  if (shown.leaf.validFromDate.getTime() > now) return "CERT_NOT_YET_VALID";
  const covered = isIP(serverName) === 0 ? shown.leaf.checkHost(serverName) : shown.leaf.checkIP(serverName);
  return covered === undefined ? "ERR_TLS_CERT_ALTNAME_INVALID" : null;
}

/** What OpenSSL's words mean here. */
function remedy(distrust: string): string {
  switch (distrust) {
    case "UNABLE_TO_VERIFY_LEAF_SIGNATURE":
    case "UNABLE_TO_GET_ISSUER_CERT":
    case "UNABLE_TO_GET_ISSUER_CERT_LOCALLY":
      return " (the server sends the leaf alone: give it fullchain.pem, not cert.pem)";
    case "ERR_TLS_CERT_ALTNAME_INVALID":
      return " (the leaf does not hold this name: add it to the identity, or correct the probe's serverName)";
    case "INVALID_PURPOSE":
      return " (the profile does not allow the leaf to be a server's)";
    default:
      return "";
  }
}

/** Enough of a fingerprint to tell leaves apart in a log line. */
function short(text: string): string {
  return text.slice(0, "sha256:".length + 16);
}
