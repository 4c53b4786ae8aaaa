-- Clients whose requests were refused again and again and would be refused again: answered at once, for a day, until an operator lifts it
-- or what they were refused for changes.
CREATE TABLE pauses (
  no INTEGER PRIMARY KEY,
  -- What exactly is paused: a leaf, or one request of it.
  subject TEXT NOT NULL UNIQUE,
  identity TEXT NOT NULL REFERENCES identities (id),
  serial TEXT,
  key_fingerprint TEXT,
  code TEXT NOT NULL,
  reason TEXT NOT NULL,
  -- What the refusals relied on; when it is no longer so, the pause says nothing.
  basis TEXT NOT NULL,
  since INTEGER NOT NULL,
  until INTEGER NOT NULL,
  refusals INTEGER NOT NULL,
  address TEXT NOT NULL
) STRICT;
CREATE INDEX pauses_by_identity ON pauses (identity);
CREATE INDEX pauses_by_end ON pauses (until);

-- Who may have one IPv6 address has a /64 of them: what waits is counted by network.
ALTER TABLE requests ADD COLUMN network TEXT;
CREATE INDEX requests_open_by_network ON requests (network) WHERE state = 'pending';
