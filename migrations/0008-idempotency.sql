-- Requests of operators that carried an Idempotency-Key: begun, and what was answered. The key itself is not kept, only its hash;
-- the answer is encrypted with a key that is derived from it, since it may hold a token.
CREATE TABLE idempotent_requests (
  no INTEGER PRIMARY KEY,
  key_hash TEXT NOT NULL UNIQUE,
  operator TEXT NOT NULL,
  request_hash TEXT NOT NULL,
  begun_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  answer BLOB,
  answer_size INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX idempotent_requests_by_operator ON idempotent_requests (operator, expires_at, answer_size);
CREATE INDEX idempotent_requests_by_expiry ON idempotent_requests (expires_at);
