import { AppError } from "@newleaf/shared/problems";
import type { KnownRequest } from "../idempotency.ts";
import type { WriteContext, Writes } from "./commands.ts";
import { prepare } from "./database.ts";

interface Kept {
  readonly requests: number;
  readonly bytes: number;
  readonly firstExpires: number;
}

type IdempotencyWrites = Pick<Writes, "abandonIdempotent" | "beginIdempotent" | "dropIdempotent" | "finishIdempotent">;

export function idempotencyWrites({ database }: WriteContext): IdempotencyWrites {
  const known = prepare<[string, number], KnownRequest>(
    database,
    `SELECT request_hash AS requestHash, begun_at AS begunAt, answer FROM idempotent_requests
     WHERE key_hash = ? AND expires_at > ?`,
  );
  const kept = prepare<[string, number], Kept>(
    database,
    `SELECT count(*) AS requests, coalesce(sum(answer_size), 0) AS bytes, coalesce(min(expires_at), 0) AS firstExpires
     FROM idempotent_requests WHERE operator = ? AND expires_at > ?`,
  );
  const forget = prepare<[string]>(database, "DELETE FROM idempotent_requests WHERE key_hash = ?");
  const insert = prepare(
    database,
    `INSERT INTO idempotent_requests (key_hash, operator, request_hash, begun_at, expires_at) VALUES (?, ?, ?, ?, ?)`,
  );
  const answer = prepare<[Uint8Array, number, string]>(
    database,
    "UPDATE idempotent_requests SET answer = ?, answer_size = ? WHERE key_hash = ?",
  );
  const drop = prepare<[number]>(database, "DELETE FROM idempotent_requests WHERE expires_at <= ?");
  return {
    beginIdempotent({ keyHash, operator, requestHash, begunAt, expiresAt }, max) {
      const earlier = known.get(keyHash, begunAt);
      if (earlier !== undefined) return earlier;
      const { requests = 0, bytes = 0, firstExpires = 0 } = kept.get(operator, begunAt) ?? {};
      if (requests >= max.requests || bytes >= max.bytes) {
        throw new AppError(
          "rate-limited",
          `${operator} has ${requests} kept answers; wait, or send requests without an Idempotency-Key`,
          { retryAfterSeconds: Math.max(1, Math.ceil((firstExpires - begunAt) / 1000)) },
        );
      }
      forget.run(keyHash);
      insert.run(keyHash, operator, requestHash, begunAt, expiresAt);
      return null;
    },
    finishIdempotent(keyHash, bytes) {
      answer.run(bytes, bytes.length, keyHash);
    },
    abandonIdempotent(keyHash) {
      forget.run(keyHash);
    },
    dropIdempotent(expiredBy) {
      drop.run(expiredBy);
    },
  };
}
