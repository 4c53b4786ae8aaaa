-- The audit log can be searched by identity, request and time, keeps its checkpoints, and lets go of what expired long ago.

-- The identity that a row's detail names, read from it: rows of before are found too, and nothing has to be written twice.
ALTER TABLE audit ADD COLUMN identity TEXT
  GENERATED ALWAYS AS (CAST(detail ->> '$.identity' AS TEXT)) VIRTUAL;
CREATE INDEX audit_by_identity ON audit (identity) WHERE identity IS NOT NULL;
CREATE INDEX audit_by_request ON audit (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX audit_by_time ON audit (at);

-- Signed ends of the chain, as they were written off this machine. `line` is the whole of it; the columns are for finding it.
CREATE TABLE audit_checkpoints (
  no INTEGER PRIMARY KEY,
  seq INTEGER NOT NULL,
  at INTEGER NOT NULL,
  line TEXT NOT NULL
) STRICT;
CREATE TRIGGER audit_checkpoints_are_kept_update BEFORE UPDATE ON audit_checkpoints BEGIN
  SELECT RAISE(ABORT, 'checkpoints of the audit log are never changed');
END;
CREATE TRIGGER audit_checkpoints_are_kept_delete BEFORE DELETE ON audit_checkpoints BEGIN
  SELECT RAISE(ABORT, 'checkpoints of the audit log are never deleted');
END;

-- Retention: certificates with notAfter before the horizon may go. The counts are of the run that has not been audited yet.
CREATE TABLE retention (
  no INTEGER PRIMARY KEY CHECK (no = 1),
  horizon INTEGER NOT NULL,
  ended_at INTEGER,
  certificates INTEGER NOT NULL DEFAULT 0,
  lineages INTEGER NOT NULL DEFAULT 0,
  keys INTEGER NOT NULL DEFAULT 0,
  tokens INTEGER NOT NULL DEFAULT 0,
  requests INTEGER NOT NULL DEFAULT 0,
  grants INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO retention (no, horizon) VALUES (1, -9007199254740991);
CREATE TRIGGER retention_never_steps_back BEFORE UPDATE OF horizon ON retention WHEN NEW.horizon < OLD.horizon BEGIN
  SELECT RAISE(ABORT, 'the horizon of retention only moves on');
END;

-- All of them by their end, for the walk of retention over the few that lie behind its horizon.
CREATE INDEX certificates_by_end ON certificates (not_after);
DROP TRIGGER certificates_are_kept;
CREATE TRIGGER certificates_are_kept BEFORE DELETE ON certificates
WHEN OLD.not_after >= (SELECT horizon FROM retention) BEGIN
  SELECT RAISE(ABORT, 'issued certificates are never deleted, but by retention long after they expired');
END;
CREATE TRIGGER certificate_totals_delete AFTER DELETE ON certificates BEGIN
  UPDATE certificate_totals SET count = count - 1 WHERE state = OLD.state AND profile = OLD.profile;
END;
CREATE INDEX tokens_by_expiry ON tokens (expires_at);
CREATE INDEX grants_by_expiry ON grants (expires_at);
