-- Operators are people, and for some profiles two of them have to say yes.

CREATE INDEX identities_admins ON identities (id) WHERE role = 'admin';
CREATE INDEX identities_operators ON identities (id) WHERE profile = 'operator';

-- Who put the key on the list, or armed it again: the first yes to an enrollment by it. Null where no operator did.
ALTER TABLE keys ADD COLUMN approved_by TEXT;

-- Each yes to an enrollment request that waits. A request has one for each operator who approved it, and at most one admission: the
-- token, approved key or grant that it came with, which counts as a yes of whoever made that.
CREATE TABLE approvals (
  no INTEGER PRIMARY KEY,
  request TEXT NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
  operator TEXT NOT NULL,
  how TEXT NOT NULL CHECK (how IN ('approval', 'token', 'approved-key', 'recovery-grant')),
  -- Who the key is to be.
  identity TEXT NOT NULL REFERENCES identities (id),
  -- Id of the token or grant, or the key's fingerprint: what is spent when the leaf is issued.
  admission TEXT CHECK ((admission IS NULL) = (how = 'approval')),
  at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX approvals_by_hand ON approvals (request, operator) WHERE how = 'approval';
CREATE UNIQUE INDEX approvals_by_admission ON approvals (request) WHERE how <> 'approval';
CREATE INDEX approvals_by_what_is_spent ON approvals (admission) WHERE admission IS NOT NULL;
CREATE INDEX approvals_by_request ON approvals (request);
