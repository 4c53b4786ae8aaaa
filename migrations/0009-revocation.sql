-- Revocation: issuers as a whole, the CRL that first carried each entry, and where leaves were used from.

-- When the issuer itself was revoked here, and why. Its state is `retired` from then on: nothing is issued by it, none of its leaves
-- is accepted, while its CRLs go on.
ALTER TABLE issuers ADD COLUMN revoked_at INTEGER;
ALTER TABLE issuers ADD COLUMN revocation_reason TEXT;

-- Number of the first CRL that lists the revocation as it is; null until there is one.
ALTER TABLE revocations ADD COLUMN crl_number INTEGER;
UPDATE revocations SET crl_number = (SELECT max(number) FROM crls WHERE crls.issuer_id = revocations.issuer_id);
CREATE INDEX revocations_unlisted ON revocations (issuer_id) WHERE crl_number IS NULL;

-- First and last use of each leaf, and from where: the two sides of a lineage conflict. Apart from certificates, whose rows are wide;
-- the last use is written every few minutes at most.
CREATE TABLE leaf_uses (
  no INTEGER PRIMARY KEY,
  serial TEXT NOT NULL UNIQUE REFERENCES certificates (serial) ON DELETE CASCADE,
  first_at INTEGER NOT NULL,
  first_address TEXT NOT NULL,
  last_at INTEGER NOT NULL,
  last_address TEXT NOT NULL
) STRICT;
