/** A CRL made at a ceremony, with a key that is never on this host, comes into force here: served to everybody, and told to every agent. */
import { AppError } from "@newleaf/shared/problems";
import { readIssuerCertificate } from "../../ca/issuer.ts";
import { readCrlOf, toEntry } from "../../ca/root-crl.ts";
import type { CrlRecord } from "../../store/issuers.ts";
import type { RevocationRecord } from "../../store/revocations.ts";
import { auditEntry, onFreshBasis, type Authority, type Caller } from "../authority.ts";
import { requireAct } from "../permissions.ts";
import { requireIssuer } from "../publications.ts";
import { inPublicationTurn, releaseCrl } from "./publish-crl.ts";

/** Another host's clock may be ahead by so much. */
const clockAllowance = 60_000;

export interface Imported {
  readonly crl: CrlRecord;
  /** Issuers of this service that it lists. */
  readonly lists: readonly string[];
}

/**
 * Takes a CRL that the issuer's own key has signed, numbered above the newest, and dropping nothing that was listed before. The same
 * CRL again changes nothing.
 * @param der DER of the CRL
 * @throws AppError not-permitted, not-found, request-invalid (no CRL), conflict (not its; not newer; it drops somebody; its time is
 *   wrong; the service makes this issuer's CRLs itself)
 */
export async function importCrl(
  authority: Authority,
  caller: Caller,
  issuerId: string,
  der: Uint8Array,
): Promise<Imported> {
  caller.target = issuerId;
  if (caller.actorKind !== "system") requireAct(caller, "issuers.revoke");
  const row = requireIssuer(authority, issuerId);
  if (authority.issuers.signers.has(issuerId))
    throw new AppError("conflict", `The service has the key of ${issuerId} and makes its CRLs itself`);
  const issuer = readIssuerCertificate(row.certificate);
  const crl = readCrlOf(issuer, der);
  return inPublicationTurn(authority, () =>
    onFreshBasis(async () => {
      const { store, clock, issuers } = authority;
      const now = clock.now();
      const newest = await store.latestCrl(issuerId);
      const record: CrlRecord = {
        issuerId,
        number: crl.number,
        thisUpdate: crl.thisUpdate,
        nextUpdate: crl.nextUpdate,
        der: new Uint8Array(der),
      };
      const lists = issuers.rows.filter(
        ({ parent, kind, certificate }) =>
          kind === "intermediate" &&
          parent === issuerId &&
          crl.revoked.some(({ serial }) => serial === readIssuerCertificate(certificate).serial),
      );
      const imported = { crl: record, lists: lists.map(({ id }) => id) };
      if (newest !== null && Buffer.from(newest.der).equals(der)) return imported;
      refuseTimes(record, newest, now);
      const ends = new Map(
        issuers.rows.map(({ certificate, notAfter }) => [readIssuerCertificate(certificate).serial, notAfter]),
      );
      const records: RevocationRecord[] = crl.revoked
        .map(toEntry)
        .map((entry) => ({ issuerId, ...entry, notAfter: ends.get(entry.serial) ?? row.notAfter }));
      const before = newest === null ? [] : readCrlOf(issuer, newest.der).revoked.map(({ serial }) => serial);
      const known = (await store.listRevocations(issuerId, now)).map(({ serial }) => serial);
      refuseDrops(new Set(records.map(({ serial }) => serial)), [...before, ...known]);
      const detail = { number: crl.number, reason: "imported", lists: imported.lists };
      await store.importCrl({
        crl: record,
        basisNext: await store.nextCrlNumber(issuerId),
        records,
        audit: [auditEntry(caller, now, "crl.imported", issuerId, detail)],
      });
      releaseCrl(authority, record);
      authority.events.acted("crl.imported", caller, { issuer: issuerId, ...detail });
      return imported;
    }),
  );
}

function refuseTimes(crl: CrlRecord, newest: CrlRecord | null, now: number): void {
  const iso = (at: number): string => new Date(at).toISOString();
  if (newest !== null && crl.number <= newest.number) {
    throw new AppError(
      "conflict",
      `CRL ${crl.number} is not newer than ${newest.number}, which is in force; give the newest to newleaf ca crl --previous-crl`,
    );
  }
  if (crl.thisUpdate > now + clockAllowance)
    throw new AppError(
      "conflict",
      `Its thisUpdate, ${iso(crl.thisUpdate)}, is to come: verifiers would refuse everybody`,
    );
  if (newest !== null && crl.thisUpdate < newest.thisUpdate)
    throw new AppError("conflict", `Its thisUpdate, ${iso(crl.thisUpdate)}, is before that of the CRL in force`);
  if (crl.nextUpdate <= now)
    throw new AppError("conflict", `It ended ${iso(crl.nextUpdate)}: verifiers would refuse everybody`);
}

/** A CRL takes nobody back (RFC 5280 §5.3.1: removeFromCRL is for delta CRLs); an entry that is missing was lost. */
function refuseDrops(listed: ReadonlySet<string>, before: readonly string[]): void {
  const lost = before.filter((serial) => !listed.has(serial));
  if (lost.length > 0)
    throw new AppError(
      "conflict",
      `It does not list ${lost.slice(0, 5).join(", ")}, revoked before; begin from the newest CRL`,
    );
}
