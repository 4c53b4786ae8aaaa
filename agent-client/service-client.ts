/** The one HTTP client of the agent: which listener, with which leaf, how long, how much. */
import {
  type AgentReport,
  type Bundle,
  type CertificateAnswer,
  mediaTypes,
  type PendingAnswer,
  paths,
} from "@newleaf/shared/api";
import type { Clock } from "@newleaf/shared/clock";
import { type ClientTls, type HttpResponse, NetworkError, requestJson } from "@newleaf/shared/http-client";
import { pemEncode } from "@newleaf/shared/pem";
import { AppError, problems } from "@newleaf/shared/problems";
import {
  type Changes,
  type Period,
  readBundle,
  readCertificateAnswer,
  readChanges,
  readPendingAnswer,
  readPeriod,
} from "./answers.ts";
import type { Credential } from "./credentials.ts";

const defaultTimeoutMs = 20_000;
/** The service answers a held poll after 55 s at the latest. */
const changesWait = "55s";
const changesTimeoutMs = 75_000;
const maxAnswer = 1_000_000;
const maxBundle = 4_000_000;
/** A CRL of a million entries is some 40 MB. */
const maxCrl = 64_000_000;

export type Speaker = Pick<Credential, "pem">;
export type EnrollmentOutcome =
  | { readonly kind: "certificate"; readonly answer: ReturnType<typeof readCertificateAnswer> }
  | { readonly kind: "pending"; readonly answer: PendingAnswer; readonly retryAfterSeconds: number | undefined };

export interface ServiceClient {
  enroll(body: { csr: string; token?: string; claim?: string }): Promise<EnrollmentOutcome>;
  pollEnrollment(id: string): Promise<EnrollmentOutcome>;
  renew(speaker: Speaker, csr: Buffer): Promise<CertificateAnswer & { readonly renewalPeriod: Period }>;
  renewalWindow(speaker: Speaker): Promise<Period>;
  report(speaker: Speaker, report: AgentReport): Promise<void>;
  /** Null: nothing new (or told to poll: `retryAfterSeconds`). */
  changes(
    speaker: Speaker,
    cursor: string | null,
    signal: AbortSignal,
  ): Promise<{ readonly changes: Changes | null; readonly retryAfterSeconds: number | undefined }>;
  /** Null: not modified. Without a speaker, or when it is refused, from the enrollment listener. */
  bundle(speaker: Speaker | null, etag: string | null): Promise<{ bundle: Bundle; etag: string | null } | null>;
  crl(speaker: Speaker | null, issuer: string): Promise<Buffer>;
  /** `/roots.pem` of the enrollment listener from whoever answers there: only a fingerprint may judge it. */
  unverifiedRoots(): Promise<string>;
  /** Local clock minus the service's, as of the last answer; null before the first. */
  readonly skewMs: number | null;
}

export interface ServiceClientOptions {
  readonly server: string;
  readonly enrollment: string;
  /** DER of the roots trusted at this moment. */
  readonly roots: () => readonly Buffer[];
  readonly clock: Clock;
  /** From a call to the last byte of its answer; the change feed has its own. */
  readonly timeoutMs?: number | undefined;
}

/** Every call throws AppError with the service's code, or NetworkError. */
export function createServiceClient(options: ServiceClientOptions): ServiceClient {
  let skewMs: number | null = null;
  const send = async (base: string, call: Call): Promise<HttpResponse> => {
    const response = await requestJson({
      url: base + call.path,
      method: call.body === undefined ? "GET" : "POST",
      ...(call.body === undefined ? {} : { body: call.body }),
      headers: call.headers ?? {},
      tls: call.tls ?? tlsOf(options.roots(), call.speaker ?? null),
      timeoutMs: call.timeoutMs ?? options.timeoutMs ?? defaultTimeoutMs,
      maxBytes: call.maxBytes ?? maxAnswer,
      ...(call.signal === undefined ? {} : { signal: call.signal }),
    });
    const date = Date.parse(response.headers.date ?? "");
    // The header has whole seconds: half a second is its middle.
    if (Number.isFinite(date)) skewMs = options.clock.now() - date - 500;
    return response;
  };
  const agents = (call: Call): Promise<HttpResponse> => send(options.server, call);
  const enrollment = (call: Call): Promise<HttpResponse> => send(options.enrollment, call);
  const published = async (call: Call): Promise<HttpResponse> => {
    if (call.speaker === null || call.speaker === undefined) return enrollment(call);
    try {
      return await agents(call);
    } catch (error) {
      // A leaf that the gate refuses must not keep fresh CRLs from the proxy.
      // One that has too much to do would only be asked twice.
      if (error instanceof AppError && problems[error.code].retry !== "later")
        return enrollment({ ...call, speaker: null });
      throw error;
    }
  };
  return {
    get skewMs() {
      return skewMs;
    },
    enroll: async (body) => outcomeOf(await enrollment({ path: paths.enrollments, body })),
    pollEnrollment: async (id) => outcomeOf(await enrollment({ path: paths.enrollment(id) })),
    renew: async (speaker, csr) => {
      const body = { csr: pemEncode("CERTIFICATE REQUEST", csr) };
      return readCertificateAnswer((await agents({ path: paths.renewals, speaker, body })).body);
    },
    renewalWindow: async (speaker) => readPeriod((await agents({ path: paths.renewalWindow, speaker })).body),
    report: async (speaker, report) => {
      await agents({ path: paths.reports, speaker, body: report });
    },
    changes: async (speaker, cursor, signal) => {
      const query = new URLSearchParams({ ...(cursor === null ? {} : { after: cursor }), wait: changesWait });
      const path = `${paths.changes}?${query.toString()}`;
      const response = await agents({ path, speaker, signal, timeoutMs: changesTimeoutMs });
      const changes = response.status === 204 ? null : readChanges(response.body);
      return { changes, retryAfterSeconds: secondsOf(response) };
    },
    bundle: async (speaker, etag) => {
      const headers: Record<string, string> = etag === null ? {} : { "if-none-match": etag };
      const response = await published({ path: paths.bundle, speaker, headers, maxBytes: maxBundle });
      if (response.status === 304) return null;
      return { bundle: readBundle(response.body), etag: response.headers.etag ?? null };
    },
    crl: async (speaker, issuer) => {
      const headers = { accept: mediaTypes.crl };
      const { body } = await published({ path: paths.crl(issuer), speaker, headers, maxBytes: maxCrl });
      if (!Buffer.isBuffer(body)) throw new NetworkError("protocol", `the service sent no CRL for ${issuer}`);
      return body;
    },
    unverifiedRoots: async () => {
      const { body } = await enrollment({ path: paths.roots, tls: { rejectUnauthorized: false } });
      if (typeof body !== "string") throw new NetworkError("protocol", "the service sent no roots");
      return body;
    },
  };
}

interface Call {
  readonly path: string;
  readonly speaker?: Speaker | null;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  readonly tls?: ClientTls;
  readonly timeoutMs?: number;
  readonly maxBytes?: number;
  readonly signal?: AbortSignal;
}

/** One of the two places where a key is PEM for TLS; Node takes no KeyObject here. */
function tlsOf(roots: readonly Buffer[], speaker: Speaker | null): ClientTls {
  const ca = roots.map((der) => pemEncode("CERTIFICATE", der));
  return speaker === null ? { ca } : { ca, cert: speaker.pem.cert, key: speaker.pem.key };
}

function outcomeOf(response: HttpResponse): EnrollmentOutcome {
  if (response.status !== 202) return { kind: "certificate", answer: readCertificateAnswer(response.body) };
  return { kind: "pending", answer: readPendingAnswer(response.body), retryAfterSeconds: secondsOf(response) };
}

function secondsOf(response: HttpResponse): number | undefined {
  const value = response.headers["retry-after"];
  return value !== undefined && /^\d{1,7}$/.test(value) ? Number(value) : undefined;
}
