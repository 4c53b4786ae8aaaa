-- Journal. Where this database stands in it: written with each commit that the journal holds. No row: it never had a journal.
CREATE TABLE journal (
  no INTEGER PRIMARY KEY CHECK (no = 1),
  -- Which journal; random.
  id TEXT NOT NULL,
  -- The last line that is carried out here, and its hash.
  n INTEGER NOT NULL,
  hash TEXT NOT NULL,
  -- The newest line at which the journal began anew.
  base INTEGER NOT NULL,
  -- 1: something was written that the journal does not have.
  lapsed INTEGER NOT NULL CHECK (lapsed IN (0, 1))
) STRICT;
