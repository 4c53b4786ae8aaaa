import type { CertificateFilter, CertificateSort, StoredCertificateState } from "../certificates.ts";
import type { Page } from "../store.ts";
import type { Connection } from "./database.ts";
import { inForce } from "./in-force.ts";
import { type Filter, filterBy, type KeyedListing, newFilter, type OrderTerm, readKeyedPage } from "./pages.ts";
import {
  certificatesByDigits,
  digitRanges,
  type IdentitySet,
  isSmall,
  keysByDigits,
  labelSet,
  textSet,
} from "./search.ts";

/** One page of certificates. @param columns what is answered, of `certificates c` */
export function readCertificatePage<Row extends object>(
  database: Connection,
  request: CertificateFilter,
  columns: string,
): Page<Row> {
  const sort = request.sort ?? usualSort(request);
  const listing: KeyedListing = {
    sort,
    from: `certificates c${indexOf(request, sort)}`,
    key: "c.no",
    filter: certificateFilter(database, request),
    order: orderOf(sort),
    columns,
    join: "certificates c ON c.no = found.key",
  };
  return readKeyedPage<Row>(database, listing, request);
}

/**
 * The order that an index has ready. Of superseded and expired ones those that ended last come first: by number, all that are still
 * good would have to be passed over.
 */
function usualSort(request: CertificateFilter): CertificateSort {
  if (request.expiresBefore !== undefined) return "notAfter";
  const isOne = request.identity !== undefined || request.lineage !== undefined || request.key !== undefined;
  return !isOne && (request.state === "superseded" || request.state === "expired") ? "-notAfter" : "-issuedAt";
}

/**
 * Of the indexes over some states, the one that gives the list in its order or holds few rows: without statistics the planner takes
 * those over all certificates. A list of one identity's, or of what a search found, is left to it.
 */
function indexOf(request: CertificateFilter, sort: CertificateSort): string {
  const { identity, lineage, key, q, label, state, expiresBefore } = request;
  if ([identity, lineage, key, q, label].some((value) => value !== undefined)) return "";
  if (state === "pending" && expiresBefore === undefined) return " INDEXED BY certificates_pending";
  if (!sort.endsWith("notAfter")) return "";
  if (expiresBefore !== undefined || state === "current") return " INDEXED BY certificates_live_by_expiry";
  return state === "superseded" ? " INDEXED BY certificates_superseded" : "";
}

function orderOf(sort: CertificateSort): readonly OrderTerm[] {
  const direction = sort.startsWith("-") ? "DESC" : "ASC";
  const number: OrderTerm = { column: "c.no", type: "integer", direction };
  if (sort.endsWith("serial")) return [{ column: "c.serial", type: "text", direction }];
  if (sort.endsWith("notAfter")) return [{ column: "c.not_after", type: "integer", direction }, number];
  return [number];
}

/** Written out, since a parameter could not show that an index over some states is of use. */
const stateIs: Readonly<Record<StoredCertificateState, string>> = {
  pending: "c.state = 'pending'",
  current: "c.state = 'current'",
  superseded: "c.state = 'superseded'",
  replaced: "c.state = 'replaced'",
  held: "c.state = 'held'",
  revoked: "c.state = 'revoked'",
};

function certificateFilter(database: Connection, request: CertificateFilter): Filter {
  const filter = newFilter();
  filterBy(filter, "c.identity = ?", request.identity);
  filterBy(filter, "c.profile = ?", request.profile);
  filterBy(filter, "c.lineage = ?", request.lineage);
  // A key stands under one identity, whose index narrows the search.
  filterBy(
    filter,
    "c.identity = (SELECT identity FROM keys WHERE fingerprint = ?) AND c.key_fingerprint = ?",
    request.key,
    request.key,
  );
  filterBy(filter, `${inForce} AND c.not_after < ?`, request.expiresBefore);
  if (request.state === "expired") {
    filterBy(filter, "c.state IN ('pending', 'current', 'superseded') AND c.not_after < ?", request.now);
  } else if (request.state !== undefined) {
    filterBy(filter, stateIs[request.state]);
    if (["pending", "current", "superseded"].includes(request.state)) {
      filterBy(filter, "c.not_after >= ?", request.now);
    }
  }
  if (request.label !== undefined) {
    const [condition, parameters] = ofIdentities(database, labelSet(request.label));
    filterBy(filter, condition, ...parameters);
  }
  if (request.q !== undefined) filterByQuery(database, filter, request.q);
  return filter;
}

function filterByQuery(database: Connection, filter: Filter, q: string): void {
  const [text, ofText] = ofIdentities(database, textSet(q), q);
  const ranges = digitRanges(q);
  if (ranges === null) {
    filterBy(filter, text, ...ofText);
    return;
  }
  const [certificates, ofCertificates] = certificatesByDigits(ranges);
  const [keys, ofKeys] = keysByDigits(ranges);
  const ofKey = `SELECT o.no FROM (${keys}) k CROSS JOIN certificates o INDEXED BY certificates_by_identity
    ON o.identity = k.identity WHERE o.key_fingerprint = k.fingerprint`;
  const digits = `c.no IN (${certificates} UNION ALL ${ofKey})`;
  filterBy(filter, `(${text} OR ${digits})`, ...ofText, ...ofCertificates, ...ofKeys);
}

/** Those of the identities in a set: by number where they are few, since numbers are what the list goes by. */
function ofIdentities(database: Connection, set: IdentitySet, q?: string): readonly [string, readonly string[]] {
  if (isSmall(database, set, q)) {
    const numbers = `SELECT o.no FROM certificates o INDEXED BY certificates_by_identity WHERE o.identity IN (${set.members})`;
    return [`c.no IN (${numbers})`, set.parameters];
  }
  return [
    `EXISTS (SELECT 1 FROM identities i WHERE i.id = c.identity AND ${set.holds})`,
    set.holdsParameters ?? set.parameters,
  ];
}
