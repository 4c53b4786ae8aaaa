-- What a restore leaves behind: that there was one, and below which no number may fall.

CREATE TABLE restores (
  -- The epoch: how often this authority was put back from a backup.
  no INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  -- 1 when the journal told everything up to the end; 0 when acts after the backup may be unknown.
  complete INTEGER NOT NULL CHECK (complete IN (0, 1)),
  -- JSON object: backup, journal, evidence, floors, what was voided.
  detail TEXT NOT NULL
) STRICT;

-- The next CRL of an issuer is numbered above this, whatever CRLs are here (RFC 5280 §5.2.3: verifiers may have seen more).
CREATE TABLE crl_floors (
  no INTEGER PRIMARY KEY,
  issuer_id TEXT NOT NULL UNIQUE REFERENCES issuers (id),
  number INTEGER NOT NULL
) STRICT;

-- Leaves that bear the signature of an issuer of ours and are not in the store: refused, and kept until an operator decides.
CREATE TABLE unvouched (
  no INTEGER PRIMARY KEY,
  serial TEXT NOT NULL UNIQUE,
  issuer_id TEXT NOT NULL REFERENCES issuers (id),
  -- What the leaf says of itself; it may name an identity that is not in the inventory.
  identity TEXT NOT NULL,
  key_fingerprint TEXT NOT NULL,
  not_before INTEGER NOT NULL,
  not_after INTEGER NOT NULL,
  -- Where it was seen last, and when.
  address TEXT NOT NULL,
  first_seen_at INTEGER NOT NULL,
  last_seen_at INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('open', 'adopted', 'revoked')),
  decided_by TEXT,
  decided_at INTEGER,
  der BLOB NOT NULL
) STRICT;
CREATE INDEX unvouched_open ON unvouched (no) WHERE state = 'open';
CREATE INDEX unvouched_by_end ON unvouched (not_after);
