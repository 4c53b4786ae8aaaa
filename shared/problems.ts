/**
 * Every way Newleaf says no: one table, append-only. Domain code throws `AppError(code)`; only the HTTP edge reads
 * `status`; the agent acts on `retry`.
 *
 * - `never`: the same request will always be refused; something outside must change (an operator, a new enrollment).
 * - `later`: the same request may succeed after waiting.
 * - `after-fix`: the caller has to change the request.
 */
export type RetryClass = "never" | "later" | "after-fix";

interface ProblemKind {
  readonly status: number;
  readonly title: string;
  readonly retry: RetryClass;
}

export const problems = {
  "request-invalid": { status: 400, title: "The request is not valid", retry: "after-fix" },
  "csr-malformed": { status: 400, title: "The certificate request cannot be read", retry: "after-fix" },
  "csr-signature-invalid": {
    status: 400,
    title: "The certificate request is not signed by its key",
    retry: "after-fix",
  },
  "reason-invalid": { status: 400, title: "Not a revocation reason that can be used here", retry: "after-fix" },
  "client-certificate-required": { status: 401, title: "A client certificate is required", retry: "after-fix" },
  "certificate-not-trusted": {
    status: 403,
    title: "The client certificate is not from an accepted issuer",
    retry: "never",
  },
  "certificate-unknown": {
    status: 403,
    title: "The client certificate is not in the inventory of issued certificates",
    retry: "never",
  },
  "certificate-revoked": { status: 403, title: "The client certificate is revoked", retry: "never" },
  "certificate-expired": { status: 403, title: "The client certificate is not in date", retry: "never" },
  "certificate-superseded": {
    status: 403,
    title: "The client certificate was superseded and its overlap has ended",
    retry: "never",
  },
  "identity-suspended": { status: 403, title: "The identity is suspended", retry: "later" },
  "names-not-permitted": { status: 403, title: "A requested name does not belong to the identity", retry: "after-fix" },
  "key-blocked": { status: 403, title: "The key was reported compromised", retry: "after-fix" },
  "token-invalid": {
    status: 403,
    title: "The enrollment token is unknown, expired or already used",
    retry: "after-fix",
  },
  "enrollment-denied": { status: 403, title: "The enrollment is not allowed", retry: "never" },
  "identity-unknown": { status: 403, title: "The identity is not in the inventory", retry: "never" },
  "not-permitted": { status: 403, title: "Not permitted", retry: "never" },
  "not-found": { status: 404, title: "Not found", retry: "never" },
  "serial-unknown": { status: 404, title: "No certificate has this serial number", retry: "never" },
  "key-in-use": { status: 409, title: "The key belongs to another identity", retry: "after-fix" },
  "key-reused": { status: 409, title: "A renewal needs a new key", retry: "after-fix" },
  "lineage-locked": { status: 409, title: "The lineage is locked until an operator decides", retry: "never" },
  conflict: { status: 409, title: "The request conflicts with the present state", retry: "after-fix" },
  "already-revoked": { status: 409, title: "The certificate is already revoked for another reason", retry: "never" },
  "request-too-large": { status: 413, title: "The request is too large", retry: "after-fix" },
  "media-type-unsupported": { status: 415, title: "The media type is not supported", retry: "after-fix" },
  "key-not-acceptable": { status: 422, title: "The key is not acceptable", retry: "after-fix" },
  "rate-limited": { status: 429, title: "Too many requests", retry: "later" },
  internal: { status: 500, title: "Internal error", retry: "later" },
  "issuer-unavailable": { status: 503, title: "No issuer can sign now", retry: "later" },
} as const satisfies Record<string, ProblemKind>;

export type ProblemCode = keyof typeof problems;

export interface AppErrorOptions {
  /** Seconds after which the same request may be tried again; sent as `Retry-After`. */
  readonly retryAfterSeconds?: number;
  readonly cause?: unknown;
}

/** A refusal with a stable code. `message` says what, why and what to do; it never contains a secret. */
export class AppError extends Error {
  override readonly name = "AppError";
  readonly code: ProblemCode;
  readonly retryAfterSeconds: number | undefined;

  constructor(code: ProblemCode, message?: string, options: AppErrorOptions = {}) {
    super(message ?? problems[code].title, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

export function isProblemCode(value: unknown): value is ProblemCode {
  return typeof value === "string" && Object.hasOwn(problems, value);
}

/** The RFC 9457 body of a refusal. */
export interface ProblemDocument {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly code: ProblemCode;
  readonly detail?: string;
  readonly retryAfterSeconds?: number;
}

export function problemDocument(error: AppError): ProblemDocument {
  const kind = problems[error.code];
  return {
    type: `urn:newleaf:problem:${error.code}`,
    title: kind.title,
    status: kind.status,
    code: error.code,
    ...(error.message === kind.title ? {} : { detail: error.message }),
    ...(error.retryAfterSeconds === undefined ? {} : { retryAfterSeconds: error.retryAfterSeconds }),
  };
}
