/** A request that carries an Idempotency-Key, before it is acted on. */
export interface IdempotentRequest {
  /** SHA-256, hex, of operator and key: the key itself is not kept. */
  readonly keyHash: string;
  readonly operator: string;
  /** SHA-256, hex, of method, path and body. */
  readonly requestHash: string;
  readonly begunAt: number;
  readonly expiresAt: number;
}

/** What is known of an earlier request with the same key. */
export interface KnownRequest {
  readonly requestHash: string;
  readonly begunAt: number;
  /** Encrypted; null: begun, and how it ended was not written down. */
  readonly answer: Uint8Array | null;
}

export interface IdempotencyStore {
  /**
   * Writes down that the request begins. Answers null when it is the first with its key, else what is known of that one.
   * Throws AppError `rate-limited` when the operator has `max.requests` kept requests, or answers of `max.bytes` in all.
   */
  beginIdempotent(
    request: IdempotentRequest,
    max: { readonly requests: number; readonly bytes: number },
  ): Promise<KnownRequest | null>;
  /** The answer of a request that was begun. */
  finishIdempotent(keyHash: string, answer: Uint8Array): Promise<void>;
  /** Forgets a request that was begun and has changed nothing: its key is free again. */
  abandonIdempotent(keyHash: string): Promise<void>;
  /** Forgets what has expired by then. */
  dropIdempotent(expiredBy: number): Promise<void>;
}
