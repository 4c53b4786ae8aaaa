/**
 * What lists are searched by. A set of identities that few belong to is looked up; one that many belong to is asked for row by row, in
 * the order of the list, whose page is then soon full. Which it is, a count that stops early tells.
 */
import { type Connection, prepare } from "./database.ts";
import { type Filter, filterBy } from "./pages.ts";

/** From here on a set counts as large. */
const manyIdentities = 1000;
/** A trigram needs three letters. */
const shortestIndexed = 3;
/** Of a serial or fingerprint: fewer digits say nothing. */
const fewestDigits = 4;

/** A set of identities as SQL, whose one `?` list is `parameters`. */
export interface IdentitySet {
  /** `SELECT` of ids. */
  readonly members: string;
  /** `SELECT` of a row for each, one after another: what `members` first collects, a count that stops early must not. */
  readonly each: string;
  /** Whether `i`, a row of identities, belongs to it. */
  readonly holds: string;
  readonly parameters: readonly string[];
  /** Parameters of `holds`, where they are others. */
  readonly holdsParameters?: readonly string[];
}

/** Identities with part of `q` in id, names, labels or owner. */
export function textSet(q: string): IdentitySet {
  const text = q.toLowerCase();
  return {
    // In double quotes: a phrase, whatever stands in it.
    members: "SELECT id FROM identities WHERE no IN (SELECT rowid FROM identity_search WHERE identity_search MATCH ?)",
    each: "SELECT 1 FROM identity_search WHERE identity_search MATCH ?",
    parameters: [`"${text.replaceAll('"', '""')}"`],
    holds: "instr(i.search, ?) > 0",
    holdsParameters: [text],
  };
}

/** Identities with a label: `key=value`, or any value of `key`. */
export function labelSet(label: string): IdentitySet {
  const at = label.indexOf("=");
  if (at === -1) {
    return {
      members: "SELECT identity FROM identity_labels INDEXED BY identity_labels_by_key WHERE key = ?",
      each: "SELECT 1 FROM identity_labels INDEXED BY identity_labels_by_key WHERE key = ?",
      parameters: [label],
      holds: "EXISTS (SELECT 1 FROM identity_labels l WHERE l.key = ? AND l.identity = i.id)",
    };
  }
  return {
    members: "SELECT identity FROM identity_labels WHERE key = ? AND value = ?",
    each: "SELECT 1 FROM identity_labels WHERE key = ? AND value = ?",
    parameters: [label.slice(0, at), label.slice(at + 1)],
    holds: "EXISTS (SELECT 1 FROM identity_labels l WHERE l.key = ? AND l.value = ? AND l.identity = i.id)",
  };
}

/** Few enough to be looked up one by one. A text too short for the index is always taken for large. */
export function isSmall(database: Connection, set: IdentitySet, q?: string): boolean {
  if (q !== undefined && [...q].length < shortestIndexed) return false;
  const sql = `SELECT count(*) FROM (${set.each} LIMIT ${manyIdentities + 1})`;
  const count = prepare<readonly string[] & unknown[], number>(database, sql)
    .pluck()
    .get(...set.parameters);
  return (count ?? 0) <= manyIdentities;
}

/** Adds that `i.id` belongs to a set. */
export function filterBySet(database: Connection, filter: Filter, set: IdentitySet): void {
  if (isSmall(database, set)) filterBy(filter, `i.id IN (${set.members})`, ...set.parameters);
  else filterBy(filter, set.holds, ...(set.holdsParameters ?? set.parameters));
}

/** Where a serial and a fingerprint that begin as `q` does would lie; null when `q` is no beginning of one. */
export interface DigitRanges {
  /** From and below. */
  readonly serial: readonly [string, string] | null;
  readonly fingerprint: readonly [string, string];
}

/** Upper case, colons, spaces, `0x` and a missing `sha256:` are understood, as tools print them. */
export function digitRanges(q: string): DigitRanges | null {
  const named = /^sha-?256(?: fingerprint)?\s*[:=]\s*/i.exec(q);
  const digits = q
    .slice(named?.[0].length ?? 0)
    .trim()
    .toLowerCase()
    .replace(/^0x/, "")
    .replaceAll(/[: ]/g, "");
  if (digits.length < fewestDigits || digits.length > 64 || !/^[0-9a-f]+$/.test(digits)) return null;
  const serial = digits.replace(/^(?:00)+/, "");
  return {
    serial: named === null && serial !== "" ? [serial, `${serial}g`] : null,
    fingerprint: [`sha256:${digits}`, `sha256:${digits}g`],
  };
}

/** Certificates with such a serial or fingerprint, as a SELECT of `no` with its parameters. */
export function certificatesByDigits({ serial, fingerprint }: DigitRanges): readonly [string, readonly string[]] {
  const [from, below] = fingerprint;
  // The index holds ten digits; the rest is compared with the row itself.
  const short = (text: string) => text.slice(7, 17);
  const bySerial = "SELECT no FROM certificates WHERE serial >= ? AND serial < ?";
  const byFingerprint = `SELECT no FROM certificates INDEXED BY certificates_by_fingerprint
    WHERE substr(fingerprint, 8, 10) >= ? AND substr(fingerprint, 8, 10) <= ? AND fingerprint >= ? AND fingerprint < ?`;
  const parameters = [short(from), short(below), from, below];
  if (serial === null) return [byFingerprint, parameters];
  return [`${bySerial} UNION ALL ${byFingerprint}`, [...serial, ...parameters]];
}

/** Keys with such a fingerprint, as a SELECT of `identity, fingerprint`. */
export function keysByDigits({ fingerprint }: DigitRanges): readonly [string, readonly string[]] {
  return ["SELECT identity, fingerprint FROM keys WHERE fingerprint >= ? AND fingerprint < ?", fingerprint];
}
