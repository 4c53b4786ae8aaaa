import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import { request as plainRequest } from "node:http";
import { request as tlsRequest } from "node:https";
import type { PeerCertificate } from "node:tls";
import { AppError, isProblemCode } from "./problems.ts";
import { visible } from "./visible.ts";

/** Of what a problem's detail says: it ends up in logs, journals and reports. */
const maxDetail = 1_000;

export interface ClientTls {
  /** PEM of the roots to trust, instead of the ones Node brings. */
  readonly ca?: string | readonly string[];
  /** PEM of the client certificate and its intermediates. */
  readonly cert?: string;
  /** PEM of the client's private key. */
  readonly key?: string;
  readonly servername?: string;
  /** False only for the first contact by root fingerprint, where what is fetched is judged by its hash. */
  readonly rejectUnauthorized?: boolean;
  readonly checkServerIdentity?: (host: string, certificate: PeerCertificate) => Error | undefined;
}

export interface HttpRequest {
  readonly url: string | URL;
  readonly method: "GET" | "POST" | "PATCH" | "PUT" | "DELETE";
  /** Sent as JSON. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  readonly tls: ClientTls;
  /** From the call to the last byte of the answer. */
  readonly timeoutMs: number;
  /** Longest body that is accepted. */
  readonly maxBytes: number;
  readonly signal?: AbortSignal;
}

export interface HttpResponse {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** JSON parsed; text of `text/*` and PEM types; else the bytes. Null when there is none (204, 304). */
  readonly body: unknown;
}

/** Where a request without a usable answer failed. */
export type NetworkFault = "unreachable" | "tls" | "timeout" | "aborted" | "protocol";

/** No usable answer: not reached, not trusted, too late, too long, or not from a Newleaf service. Waiting may help. */
export class NetworkError extends Error {
  override readonly name = "NetworkError";
  readonly fault: NetworkFault;
  /** HTTP status, when there was one. */
  readonly status: number | undefined;
  readonly retryAfterSeconds: number | undefined;

  constructor(
    fault: NetworkFault,
    message: string,
    options: { cause?: unknown; status?: number; retryAfterSeconds?: number | undefined } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.fault = fault;
    this.status = options.status;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

/**
 * One request over a connection of its own: no kept connection, no resumed session, so that what the service says is about
 * the certificate presented now. Redirects are not followed.
 *
 * @returns any answer below 400
 * @throws AppError with the code of a problem+json answer (and `retryAfterSeconds`), NetworkError for everything else
 */
export async function requestJson(options: HttpRequest): Promise<HttpResponse> {
  const url = new URL(options.url);
  const where = `${options.method} ${url.host}${url.pathname}`;
  const timeout = AbortSignal.timeout(options.timeoutMs);
  const signal = options.signal === undefined ? timeout : AbortSignal.any([options.signal, timeout]);
  try {
    const answer = await exchange(url, options, signal);
    if (answer.status >= 400) throw refusal(where, answer);
    return { ...answer, body: parsed(where, answer) };
  } catch (error) {
    if (error instanceof AppError || error instanceof NetworkError) throw error;
    if (timeout.aborted) {
      throw new NetworkError("timeout", `${where}: no answer within ${options.timeoutMs / 1000} s`, { cause: error });
    }
    if (signal.aborted) throw new NetworkError("aborted", `${where}: given up`, { cause: error });
    throw networkError(where, error);
  }
}

interface RawResponse {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

function exchange(url: URL, options: HttpRequest, signal: AbortSignal): Promise<RawResponse> {
  const payload = options.body === undefined ? undefined : Buffer.from(JSON.stringify(options.body));
  const { ca, ...tls } = options.tls;
  const { promise, resolve, reject } = Promise.withResolvers<RawResponse>();
  const request = (url.protocol === "http:" ? plainRequest : tlsRequest)(url, {
    method: options.method,
    agent: false,
    minVersion: "TLSv1.2",
    // Said, so that NODE_TLS_REJECT_UNAUTHORIZED in somebody's environment cannot take it away.
    rejectUnauthorized: true,
    ...tls,
    ...(ca === undefined ? {} : { ca: typeof ca === "string" ? ca : [...ca] }),
    headers: {
      accept: "application/json",
      ...(payload === undefined
        ? {}
        : { "content-type": "application/json", "content-length": String(payload.length) }),
      ...options.headers,
    },
    signal,
  });
  request.on("response", (response) => {
    collect(response, options.maxBytes).then(resolve, reject);
  });
  // After an answer has begun, a reset of the connection is the answer's affair: a refused client's connection is closed.
  request.on("error", reject);
  request.end(payload);
  return promise;
}

async function collect(response: IncomingMessage, maxBytes: number): Promise<RawResponse> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxBytes) {
      response.destroy();
      throw new NetworkError(
        "protocol",
        `the answer is longer than ${maxBytes} bytes; it is not from a Newleaf service`,
      );
    }
    chunks.push(chunk);
  }
  return { status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) };
}

function parsed(where: string, answer: RawResponse): unknown {
  if (answer.body.length === 0) return null;
  const type = mediaType(answer.headers);
  if (type === "application/json" || type.endsWith("+json")) {
    try {
      return JSON.parse(answer.body.toString("utf8")) as unknown;
    } catch (cause) {
      throw new NetworkError("protocol", `${where}: the answer says JSON and is not`, { cause, status: answer.status });
    }
  }
  if (type.startsWith("text/") || type.includes("pem")) return answer.body.toString("utf8");
  return answer.body;
}

function refusal(where: string, answer: RawResponse): AppError | NetworkError {
  const body = mediaType(answer.headers).endsWith("json") ? parsed(where, answer) : null;
  const fields = typeof body === "object" && body !== null ? (body as Record<string, unknown>) : {};
  const { code, detail, retryAfterSeconds } = fields;
  const wait = typeof retryAfterSeconds === "number" ? retryAfterSeconds : retryAfter(answer.headers);
  if (isProblemCode(code)) {
    const options = wait === undefined ? {} : { retryAfterSeconds: wait };
    return new AppError(code, typeof detail === "string" ? visible(detail.slice(0, maxDetail)) : undefined, options);
  }
  return new NetworkError("protocol", `${where}: answered ${answer.status}, which no Newleaf service says`, {
    status: answer.status,
    retryAfterSeconds: wait,
  });
}

/** Seconds of `Retry-After`, which is a number or a date (RFC 9110 §10.2.3); a date is counted from the answer's own `Date`. */
function retryAfter(headers: IncomingHttpHeaders): number | undefined {
  const value = headers["retry-after"];
  if (value === undefined) return undefined;
  if (/^\d{1,9}$/.test(value)) return Number(value);
  const from = headers.date === undefined ? NaN : Date.parse(headers.date);
  const seconds = Math.ceil((Date.parse(value) - from) / 1000);
  return Number.isFinite(seconds) ? Math.max(0, seconds) : undefined;
}

function mediaType(headers: IncomingHttpHeaders): string {
  return (headers["content-type"] ?? "").split(";")[0]?.trim().toLowerCase() ?? "";
}

function networkError(where: string, error: unknown): NetworkError {
  const { code } = error as NodeJS.ErrnoException;
  const message = error instanceof Error ? error.message : String(error);
  const reason = code ?? message;
  const isTls = /^(ERR_SSL|ERR_TLS|CERT_|UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|HOSTNAME_|EPROTO)/.test(code ?? "");
  if (isTls) return new NetworkError("tls", `${where}: TLS failed: ${message}`, { cause: error });
  return new NetworkError("unreachable", `${where}: not reached (${reason})`, { cause: error });
}
