-- Inventory: who answers for an identity, a word about it, and what is needed to find it among a hundred thousand.

ALTER TABLE identities ADD COLUMN owner TEXT;
ALTER TABLE identities ADD COLUMN notes TEXT;
-- What people search by, one a line, in lower case: id, names, labels as key=value, owner. The store writes it.
ALTER TABLE identities ADD COLUMN search TEXT NOT NULL DEFAULT '';
UPDATE identities SET search = lower(id
  || coalesce((SELECT group_concat(char(10) || name, '') FROM identity_names n WHERE n.identity = identities.id), '')
  || coalesce((SELECT group_concat(char(10) || key || '=' || value, '') FROM json_each(labels)), ''));
-- Everything a search reads when so many match that it looks through the list in its order; and the filters of the list.
CREATE INDEX identities_searched ON identities (id, state, profile, search);
CREATE INDEX identities_by_profile ON identities (profile, id);
CREATE INDEX identities_suspended ON identities (id) WHERE state = 'suspended';

-- Any three letters of the above, for searches that few match. The triggers keep it right whoever writes.
CREATE VIRTUAL TABLE identity_search USING fts5 (search, content = 'identities', content_rowid = 'no', tokenize = 'trigram');
CREATE TRIGGER identity_search_insert AFTER INSERT ON identities BEGIN
  INSERT INTO identity_search (rowid, search) VALUES (NEW.no, NEW.search);
END;
CREATE TRIGGER identity_search_update AFTER UPDATE OF search ON identities WHEN OLD.search <> NEW.search BEGIN
  INSERT INTO identity_search (identity_search, rowid, search) VALUES ('delete', OLD.no, OLD.search);
  INSERT INTO identity_search (rowid, search) VALUES (NEW.no, NEW.search);
END;
INSERT INTO identity_search (identity_search) VALUES ('rebuild');

-- The labels again, one a row.
CREATE TABLE identity_labels (
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  identity TEXT NOT NULL REFERENCES identities (id),
  PRIMARY KEY (key, value, identity)
) STRICT, WITHOUT ROWID;
CREATE INDEX identity_labels_by_identity ON identity_labels (identity);
CREATE INDEX identity_labels_by_key ON identity_labels (key, identity);
INSERT INTO identity_labels (key, value, identity) SELECT l.key, l.value, i.id FROM identities i, json_each(i.labels) l;

-- Lists by expiry and by profile. What is issued goes to the end of both, and they do not change with a certificate's state.
CREATE INDEX certificates_by_expiry ON certificates (not_after);
CREATE INDEX certificates_by_profile ON certificates (profile);
-- Ten digits find a fingerprint among millions; the whole one would make each issuance write five times as much.
CREATE INDEX certificates_by_fingerprint ON certificates (substr(fingerprint, 8, 10));

-- Since when what a host serves is not its leaf in force, as its reports tell; null when all is well.
ALTER TABLE reports ADD COLUMN mismatch_since INTEGER;
UPDATE reports SET mismatch_since = at WHERE EXISTS (SELECT 1 FROM json_each(served) seen WHERE seen.value IS NOT
  (SELECT fingerprint FROM certificates c WHERE c.identity = reports.identity AND c.state IN ('pending', 'current') ORDER BY c.no DESC LIMIT 1));
CREATE INDEX reports_mismatched ON reports (mismatch_since) WHERE mismatch_since IS NOT NULL;
CREATE INDEX reports_by_clock_skew ON reports (clock_skew);

-- Of each issuer, the number of the CRL in force on each host, as its reports tell: who is behind is a range of the index.
CREATE TABLE report_crls (
  identity TEXT NOT NULL REFERENCES identities (id),
  issuer TEXT NOT NULL,
  number INTEGER NOT NULL,
  PRIMARY KEY (identity, issuer)
) STRICT, WITHOUT ROWID;
CREATE INDEX report_crls_by_number ON report_crls (issuer, number);
INSERT INTO report_crls (identity, issuer, number)
  SELECT r.identity, c.key, c.value FROM reports r, json_each(r.report, '$.crls') c;
