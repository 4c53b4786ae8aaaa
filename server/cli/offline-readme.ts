/** The note that lies beside the encrypted root key. */
export function offlineReadme(rootFingerprint: string, rootNotAfter: number, intermediateNotAfter: number): string {
  const day = (at: number): string => new Date(at).toISOString().slice(0, 10);
  return `CARRY THIS DIRECTORY AWAY

What it is
  root.key.pem   the private key of the root CA, encrypted with the passphrase you gave to "newleaf init"
  root.pem       the root certificate (public), valid until ${day(rootNotAfter)}
                 ${rootFingerprint}

Why it must not stay here
  Whoever holds root.key.pem and its passphrase can make certificates for any name, and every verifier of your fleet
  believes them. The service never needs this key: it issues with the intermediate. While the key lies on this machine,
  whoever breaks into the machine needs only the passphrase.

How
  1. Copy the whole directory to two media that are not connected to anything (two USB sticks, in two places).
  2. Check each copy on another machine:
       openssl pkey -in root.key.pem -noout          asks for the passphrase, prints nothing when it is right
       openssl x509 -in root.pem -noout -fingerprint -sha256
  3. Keep the passphrase apart from the media.
  4. Remove this directory here: shred -u root.key.pem, then delete the rest.

When you need it again
  Before ${day(intermediateNotAfter)}: the intermediate and the root's CRL end that day, and a new intermediate has to be signed.
  If the intermediate's key is lost or stolen: to revoke it and sign another.
`;
}
