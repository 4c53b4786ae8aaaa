import { AppError } from "@newleaf/shared/problems";
import type { IdentityFilter, IdentitySort } from "../identities.ts";
import type { Page, PageRequest } from "../store.ts";
import { type Connection, prepare } from "./database.ts";
import { inForce } from "./in-force.ts";
import { type Filter, filterBy, isCursorOf, type KeyedListing, newFilter, readKeyedPage } from "./pages.ts";
import { certificatesByDigits, digitRanges, filterBySet, isSmall, keysByDigits, labelSet, textSet } from "./search.ts";

/** Up to here, leaves that end in time are looked up first; beyond, each identity is asked for its leaf. */
const manyEnding = 5000;

type Part = Pick<KeyedListing, "sort" | "from" | "key" | "filter" | "order">;

/** One page of identities. @param shape what is answered: `found.key` is the id */
export function readIdentityPage<Row extends object>(
  database: Connection,
  request: IdentityFilter,
  shape: Pick<KeyedListing, "columns" | "join">,
): Page<Row> {
  const sort = request.sort ?? (request.expiresBefore === undefined ? "id" : "notAfter");
  const parts = partsOf(database, request, sort).map((part) => ({ ...part, ...shape }));
  return readParts<Row>(database, parts, request);
}

/** The first part's rows, then the second's: one list. A cursor names the part it belongs to. */
function readParts<Row extends object>(
  database: Connection,
  parts: readonly KeyedListing[],
  request: PageRequest,
): Page<Row> {
  const { cursor, limit } = request;
  const begun = cursor === undefined ? 0 : parts.findIndex((part) => isCursorOf(cursor, part.sort));
  if (begun === -1) {
    throw new AppError("request-invalid", "The cursor is not one that this list gave; start again without it.");
  }
  const items: Row[] = [];
  for (const [index, part] of parts.entries()) {
    if (index < begun) continue;
    const page = readKeyedPage<Row>(database, part, {
      // One more than is wanted tells whether anything follows.
      limit: Math.max(1, limit - items.length),
      ...(index === begun && cursor !== undefined ? { cursor } : {}),
    });
    if (items.length === limit) {
      // Full already: this part is only asked whether it holds anything.
      return { items, nextCursor: page.items.length === 0 ? null : beginningOf(part.sort) };
    }
    items.push(...page.items);
    if (page.nextCursor !== null) return { items, nextCursor: page.nextCursor };
  }
  return { items, nextCursor: null };
}

/** Before every id. */
function beginningOf(sort: string): string {
  return Buffer.from(JSON.stringify([sort, ""])).toString("base64url");
}

function partsOf(database: Connection, request: IdentityFilter, sort: IdentitySort): readonly Part[] {
  const direction = sort.startsWith("-") ? "DESC" : "ASC";
  const by = sort.replace("-", "");
  const byId = (name: string, filter: Filter, way: "ASC" | "DESC"): Part => ({
    sort: name,
    from: "identities i",
    key: "i.id",
    filter,
    order: [{ column: "i.id", type: "text", direction: way }],
  });
  if (by === "id") {
    const filter = identityFilter(database, request);
    filterByEnd(database, filter, request.expiresBefore);
    return [request.label === undefined ? byId(sort, filter, direction) : byLabel(database, request, sort, direction)];
  }
  const filter = identityFilter(database, request);
  const rest = identityFilter(database, request);
  const ordered = (from: string, columns: readonly string[]): Part => ({
    sort,
    from,
    key: "i.id",
    filter,
    order: columns.map((column) => ({ column, type: "integer", direction })),
  });
  if (by === "notAfter") {
    filterBy(filter, inForce);
    filterBy(filter, "c.not_after < ?", request.expiresBefore);
    rest.conditions.push(
      "NOT EXISTS (SELECT 1 FROM certificates c WHERE c.identity = i.id AND c.state IN ('pending', 'current'))",
    );
    const leaves = "certificates c INDEXED BY certificates_live_by_expiry";
    const first = ordered(`${leaves} CROSS JOIN identities i ON i.id = c.identity`, ["c.not_after", "c.no"]);
    return request.expiresBefore === undefined ? [first, byId(`${sort} none`, rest, "ASC")] : [first];
  }
  filterByEnd(database, filter, request.expiresBefore);
  filterByEnd(database, rest, request.expiresBefore);
  rest.conditions.push("NOT EXISTS (SELECT 1 FROM sightings s WHERE s.identity = i.id)");
  const first = ordered("sightings s CROSS JOIN identities i ON i.id = s.identity", ["s.last_seen_at", "s.no"]);
  return [first, byId(`${sort} none`, rest, "ASC")];
}

/** The labels lie in the order of the ids: no other way finds a page of them as fast, however many there are. */
function byLabel(database: Connection, request: IdentityFilter, sort: string, direction: "ASC" | "DESC"): Part {
  const { label = "", ...others } = request;
  const at = label.indexOf("=");
  const filter = identityFilter(database, others);
  filterByEnd(database, filter, request.expiresBefore);
  filterBy(filter, "l.key = ?", at === -1 ? label : label.slice(0, at));
  if (at !== -1) filterBy(filter, "l.value = ?", label.slice(at + 1));
  const index = at === -1 ? "INDEXED BY identity_labels_by_key" : "";
  return {
    sort,
    from: `identity_labels l ${index} CROSS JOIN identities i ON i.id = l.identity`,
    key: "i.id",
    filter,
    order: [{ column: "l.identity", type: "text", direction }],
  };
}

function identityFilter(database: Connection, request: IdentityFilter): Filter {
  const filter = newFilter();
  if (request.state === undefined) filterBy(filter, "i.state <> 'removed'");
  // Written out, since a parameter could not show that an index over some states is of use.
  else filterBy(filter, `i.state = '${request.state}'`);
  if (request.profile === undefined) filterBy(filter, "i.profile <> 'service'");
  filterBy(filter, "i.profile = ?", request.profile);
  if (request.label !== undefined) filterBySet(database, filter, labelSet(request.label));
  if (request.q !== undefined) filterByQuery(database, filter, request.q);
  return filter;
}

function filterByQuery(database: Connection, filter: Filter, q: string): void {
  const set = textSet(q);
  const ways: string[] = [];
  const parameters: string[] = [];
  if (isSmall(database, set, q)) {
    ways.push(`i.id IN (${set.members}`);
    parameters.push(...set.parameters);
  } else {
    ways.push(`(${set.holds}`);
    parameters.push(...(set.holdsParameters ?? []));
  }
  const isLookup = ways[0]?.startsWith("i.id IN") === true;
  const ranges = digitRanges(q);
  if (ranges !== null) {
    const [certificates, ofCertificates] = certificatesByDigits(ranges);
    const [keys, ofKeys] = keysByDigits(ranges);
    const members = `SELECT identity FROM certificates WHERE no IN (${certificates}) UNION ALL SELECT identity FROM (${keys})`;
    ways.push(isLookup ? ` UNION ALL ${members}` : ` OR i.id IN (${members})`);
    parameters.push(...ofCertificates, ...ofKeys);
  }
  filterBy(filter, `${ways.join("")})`, ...parameters);
}

function filterByEnd(database: Connection, filter: Filter, before: number | undefined): void {
  if (before === undefined) return;
  const count = prepare<[number], number>(
    database,
    `SELECT count(*) FROM (SELECT 1 FROM certificates WHERE state IN ('pending', 'current') AND not_after < ? LIMIT ${manyEnding + 1})`,
  ).pluck();
  const ending = `FROM certificates c WHERE ${inForce} AND c.not_after < ?`;
  const isFew = (count.get(before) ?? 0) <= manyEnding;
  filterBy(
    filter,
    isFew ? `i.id IN (SELECT c.identity ${ending})` : `EXISTS (SELECT 1 ${ending} AND c.identity = i.id)`,
    before,
  );
}
