-- Newleaf, the foundation. Times are milliseconds since the epoch; fingerprints, serials and ids are text; DER is a blob.
--
-- Rowid tables throughout, with unique indexes for the random keys: a random 16-byte serial as the clustered key of wide rows
-- makes grouped inserts twice as dear. `no` is the rowid: it gives the order of arrival, which list positions name.
-- Rows of what was issued, revoked or audited are never deleted.
-- Checks of what is written with every certificate say OR, not IN: SQLite builds a table in memory for each IN of three or more,
-- at every row, and that was a tenth of the cost of recording a certificate.

CREATE TABLE issuers (
  no INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL CHECK (kind IN ('root', 'intermediate')),
  parent TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('staged', 'active', 'draining', 'retired')),
  not_before INTEGER NOT NULL,
  not_after INTEGER NOT NULL,
  -- When something was revoked that no CRL of this issuer carries yet; null when its newest CRL is complete.
  crl_stale_since INTEGER,
  certificate BLOB NOT NULL,
  twin BLOB
) STRICT;

CREATE TABLE crls (
  no INTEGER PRIMARY KEY,
  issuer_id TEXT NOT NULL REFERENCES issuers (id),
  number INTEGER NOT NULL,
  this_update INTEGER NOT NULL,
  next_update INTEGER NOT NULL,
  der BLOB NOT NULL,
  UNIQUE (issuer_id, number)
) STRICT;

CREATE TABLE bundles (
  version INTEGER PRIMARY KEY,
  created_at INTEGER NOT NULL,
  -- JSON arrays of issuer ids.
  roots TEXT NOT NULL,
  intermediates TEXT NOT NULL,
  -- JSON array of base64 DER.
  cross_certificates TEXT NOT NULL
) STRICT;

CREATE TABLE identities (
  no INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  profile TEXT NOT NULL CHECK (profile IN ('agent', 'gateway', 'operator', 'service')),
  state TEXT NOT NULL CHECK (state IN ('active', 'suspended', 'removed')),
  revision INTEGER NOT NULL,
  role TEXT CHECK (role IN ('viewer', 'approver', 'operator', 'admin')),
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  -- JSON: {dns, ip, uri, email}, and {key: value}.
  names TEXT NOT NULL,
  labels TEXT NOT NULL
) STRICT;
CREATE INDEX identities_removed ON identities (id) WHERE state = 'removed';

-- The names again, one a row, to find who shares them.
CREATE TABLE identity_names (
  no INTEGER PRIMARY KEY,
  identity TEXT NOT NULL REFERENCES identities (id),
  kind TEXT NOT NULL CHECK (kind IN ('dns', 'ip', 'uri', 'email')),
  name TEXT NOT NULL
) STRICT;
CREATE INDEX identity_names_by_name ON identity_names (name, kind);
CREATE INDEX identity_names_by_identity ON identity_names (identity);

-- Last authenticated request. Apart from identities: it is written far more often and is no change of the inventory.
CREATE TABLE sightings (
  no INTEGER PRIMARY KEY,
  identity TEXT NOT NULL UNIQUE REFERENCES identities (id),
  last_seen_at INTEGER NOT NULL
) STRICT;
CREATE INDEX sightings_by_time ON sightings (last_seen_at);

-- Who a key belongs to, from the first time it is approved or issued for.
CREATE TABLE keys (
  no INTEGER PRIMARY KEY,
  fingerprint TEXT NOT NULL UNIQUE,
  identity TEXT NOT NULL REFERENCES identities (id),
  -- Place in the inventory's list; null when it is not approved.
  position INTEGER,
  armed INTEGER NOT NULL CHECK (armed IN (0, 1)),
  issued INTEGER NOT NULL CHECK (issued IN (0, 1))
) STRICT;
CREATE INDEX keys_by_identity ON keys (identity);

-- Keys reported compromised: never accepted again, known to the service or not.
CREATE TABLE blocked_keys (
  no INTEGER PRIMARY KEY,
  fingerprint TEXT NOT NULL UNIQUE,
  blocked_at INTEGER NOT NULL
) STRICT;

CREATE TABLE lineages (
  no INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  identity TEXT NOT NULL REFERENCES identities (id),
  state TEXT NOT NULL CHECK (state = 'active' OR state = 'locked' OR state = 'ended'),
  created_at INTEGER NOT NULL,
  newest_generation INTEGER NOT NULL,
  locked_at INTEGER,
  -- JSON object.
  evidence TEXT
) STRICT;
CREATE INDEX lineages_by_identity ON lineages (identity);
CREATE INDEX lineages_locked ON lineages (identity) WHERE state = 'locked';

CREATE TABLE certificates (
  no INTEGER PRIMARY KEY,
  serial TEXT NOT NULL UNIQUE,
  issuer_id TEXT NOT NULL REFERENCES issuers (id),
  identity TEXT NOT NULL REFERENCES identities (id),
  profile TEXT NOT NULL CHECK (profile = 'agent' OR profile = 'gateway' OR profile = 'operator' OR profile = 'service'),
  kind TEXT NOT NULL CHECK (kind = 'enrollment' OR kind = 'renewal' OR kind = 'recovery'),
  lineage TEXT REFERENCES lineages (id),
  generation INTEGER NOT NULL,
  parent TEXT,
  state TEXT NOT NULL CHECK (state = 'pending' OR state = 'current' OR state = 'superseded' OR state = 'replaced' OR state = 'held' OR state = 'revoked'),
  -- What a held leaf goes back to.
  state_before_hold TEXT CHECK ((state_before_hold IS NULL) = (state <> 'held')),
  key_fingerprint TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  not_before INTEGER NOT NULL,
  not_after INTEGER NOT NULL,
  issued_at INTEGER NOT NULL,
  renewal_start INTEGER NOT NULL,
  renewal_end INTEGER NOT NULL,
  first_used_at INTEGER,
  superseded_at INTEGER,
  revoked_at INTEGER,
  reason TEXT,
  -- Last, so that reading the others never touches an overflow page.
  der BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX certificates_by_lineage ON certificates (lineage, generation) WHERE lineage IS NOT NULL;
CREATE INDEX certificates_by_identity ON certificates (identity);
-- Candidates for "in force", the most urgent first. Small (one or two rows an identity), and all that counting them needs.
CREATE INDEX certificates_live_by_expiry ON certificates (not_after, profile, state, identity) WHERE state IN ('pending', 'current');
CREATE INDEX certificates_live_by_renewal ON certificates (renewal_end, profile, identity) WHERE state IN ('pending', 'current');
CREATE INDEX certificates_live_by_identity ON certificates (identity) WHERE state IN ('pending', 'current');
CREATE INDEX certificates_superseded ON certificates (not_after, profile) WHERE state = 'superseded';
CREATE INDEX certificates_pending ON certificates (issued_at) WHERE state = 'pending';
CREATE INDEX certificates_withdrawn ON certificates (state) WHERE state = 'replaced' OR state = 'held' OR state = 'revoked';

-- How many there are, so that nobody has to count ten million rows for a metric.
CREATE TABLE certificate_totals (
  state TEXT NOT NULL,
  profile TEXT NOT NULL,
  count INTEGER NOT NULL,
  PRIMARY KEY (state, profile)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER certificate_totals_insert AFTER INSERT ON certificates BEGIN
  INSERT INTO certificate_totals (state, profile, count) VALUES (NEW.state, NEW.profile, 1)
    ON CONFLICT (state, profile) DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER certificate_totals_update AFTER UPDATE OF state ON certificates WHEN OLD.state <> NEW.state BEGIN
  UPDATE certificate_totals SET count = count - 1 WHERE state = OLD.state AND profile = OLD.profile;
  INSERT INTO certificate_totals (state, profile, count) VALUES (NEW.state, NEW.profile, 1)
    ON CONFLICT (state, profile) DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER certificates_are_kept BEFORE DELETE ON certificates BEGIN
  SELECT RAISE(ABORT, 'issued certificates are never deleted');
END;

-- Narrow and in the order a CRL lists them. Without a rowid, because this row is no wider than the index it would need.
CREATE TABLE revocations (
  issuer_id TEXT NOT NULL REFERENCES issuers (id),
  serial TEXT NOT NULL,
  reason TEXT NOT NULL,
  revoked_at INTEGER NOT NULL,
  not_after INTEGER NOT NULL,
  PRIMARY KEY (issuer_id, serial)
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
  no INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  secret_hash TEXT NOT NULL UNIQUE,
  identity TEXT NOT NULL REFERENCES identities (id),
  created_by TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  spent_at INTEGER,
  spent_on TEXT,
  revoked_at INTEGER
) STRICT;
CREATE INDEX tokens_by_identity ON tokens (identity);

CREATE TABLE requests (
  no INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  state TEXT NOT NULL CHECK (state IN ('pending', 'issued', 'denied')),
  key_fingerprint TEXT NOT NULL,
  csr BLOB NOT NULL,
  claim TEXT,
  -- JSON array.
  asked_names TEXT NOT NULL,
  address TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  identity TEXT REFERENCES identities (id),
  serial TEXT,
  decided_by TEXT,
  decided_at INTEGER
) STRICT;
CREATE INDEX requests_by_key ON requests (key_fingerprint);
CREATE UNIQUE INDEX requests_open_by_key ON requests (key_fingerprint) WHERE state = 'pending';
CREATE INDEX requests_open_by_address ON requests (address) WHERE state = 'pending';
CREATE INDEX requests_by_expiry ON requests (expires_at);

CREATE TABLE grants (
  no INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  identity TEXT NOT NULL REFERENCES identities (id),
  created_by TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  spent_at INTEGER
) STRICT;
CREATE INDEX grants_open ON grants (identity) WHERE spent_at IS NULL;

CREATE TABLE reports (
  no INTEGER PRIMARY KEY,
  identity TEXT NOT NULL UNIQUE REFERENCES identities (id),
  at INTEGER NOT NULL,
  serial TEXT NOT NULL,
  clock_skew INTEGER NOT NULL,
  -- JSON: the whole report, and of it the distinct fingerprints that were seen served.
  report TEXT NOT NULL,
  served TEXT NOT NULL
) STRICT;

-- Append-only and chained: `hash` covers every other column (server/audit-chain.ts).
CREATE TABLE audit (
  seq INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  actor_kind TEXT NOT NULL CHECK (actor_kind = 'operator' OR actor_kind = 'agent' OR actor_kind = 'stranger' OR actor_kind = 'system'),
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  target TEXT,
  request_id TEXT,
  address TEXT,
  -- JSON object.
  detail TEXT,
  previous_hash TEXT NOT NULL,
  hash TEXT NOT NULL
) STRICT;
CREATE INDEX audit_by_actor ON audit (actor);
CREATE INDEX audit_by_action ON audit (action);
CREATE INDEX audit_by_target ON audit (target) WHERE target IS NOT NULL;
CREATE TRIGGER audit_is_append_only_update BEFORE UPDATE ON audit BEGIN
  SELECT RAISE(ABORT, 'the audit log is append-only: rows are never changed');
END;
CREATE TRIGGER audit_is_append_only_delete BEFORE DELETE ON audit BEGIN
  SELECT RAISE(ABORT, 'the audit log is append-only: rows are never deleted');
END;
-- Also closes INSERT OR REPLACE, which deletes without asking the trigger above.
CREATE TRIGGER audit_has_no_gaps BEFORE INSERT ON audit
WHEN NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM audit)
  OR (NEW.seq > 1 AND NEW.previous_hash <> (SELECT hash FROM audit WHERE seq = NEW.seq - 1))
BEGIN
  SELECT RAISE(ABORT, 'the audit log is a chain: a row must follow the last one');
END;

-- What a ping writes, to prove that a commit gets through.
CREATE TABLE heartbeat (
  no INTEGER PRIMARY KEY CHECK (no = 1),
  beats INTEGER NOT NULL
) STRICT;
INSERT INTO heartbeat (no, beats) VALUES (1, 0);
