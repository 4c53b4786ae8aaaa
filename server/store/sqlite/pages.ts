import { AppError } from "@newleaf/shared/problems";
import type { Page, PageRequest } from "../store.ts";
import { type Connection, prepare } from "./database.ts";

const maxLimit = 1000;
/** Far above any real position (at most an identity id and two numbers). */
const maxCursorLength = 256;

/** A place in a list: the sort key of the last row of the page before. */
export type Position = string | number;

/** Conditions and their parameters, joined by AND; the texts are this store's own, never a caller's. */
export interface Filter {
  readonly conditions: string[];
  readonly parameters: Position[];
}

export interface OrderTerm {
  readonly column: string;
  readonly type: "integer" | "text";
  readonly direction: "ASC" | "DESC";
}

export interface Listing<Row> {
  readonly select: string;
  readonly filter: Filter;
  /** Columns in the order they sort by; together unique. */
  readonly order: readonly OrderTerm[];
  readonly positionOf: (row: Row) => readonly Position[];
}

/** A list that is found by its narrow part first: the positions of one page, then the rows that stand there. */
export interface KeyedListing {
  /** The order's name, such as `-notAfter`: a cursor continues only the order that gave it. */
  readonly sort: string;
  /** Tables, and the column that finds a row again. */
  readonly from: string;
  readonly key: string;
  readonly filter: Filter;
  /** Columns in the order they sort by; together unique. */
  readonly order: readonly OrderTerm[];
  /** Columns and tables of what is answered, which `found.key` leads to. */
  readonly columns: string;
  readonly join: string;
}

export function newFilter(): Filter {
  return { conditions: [], parameters: [] };
}

/** Adds `condition` with its parameter when there is a value to filter by. */
export function filterBy(filter: Filter, condition: string, ...parameters: (Position | undefined)[]): void {
  const present = parameters.filter((value) => value !== undefined);
  if (present.length !== parameters.length) return;
  filter.conditions.push(condition);
  filter.parameters.push(...present);
}

/**
 * One page of a listing by keyset: a cursor names the last row seen, so rows that come and go elsewhere move nothing.
 *
 * @throws AppError `request-invalid` for a limit outside 1 to 1,000 or a cursor that is not of this list
 */
export function readPage<Row>(database: Connection, listing: Listing<Row>, request: PageRequest): Page<Row> {
  const { conditions, parameters } = listing.filter;
  checkedLimit(request.limit);
  if (request.cursor !== undefined) {
    const position = readCursor(request.cursor, listing.order);
    const operator = listing.order[0]?.direction === "DESC" ? "<" : ">";
    const columns = listing.order.map((term) => term.column).join(", ");
    conditions.push(`(${columns}) ${operator} (${position.map(() => "?").join(", ")})`);
    parameters.push(...position);
  }
  const where = conditions.length === 0 ? "" : ` WHERE ${conditions.join(" AND ")}`;
  const order = listing.order.map((term) => `${term.column} ${term.direction}`).join(", ");
  const sql = `${listing.select}${where} ORDER BY ${order} LIMIT ?`;
  const rows = prepare<Position[], Row>(database, sql).all(...parameters, request.limit + 1);
  const items = rows.slice(0, request.limit);
  const last = rows.length > request.limit ? items.at(-1) : undefined;
  return { items, nextCursor: last === undefined ? null : writeCursor(listing.positionOf(last)) };
}

/**
 * One page of a keyed listing. What the order sorts are positions, never whole rows.
 *
 * @throws AppError `request-invalid` for a limit outside 1 to 1,000 or a cursor that is not of this list in this order
 */
export function readKeyedPage<Row extends object>(
  database: Connection,
  listing: KeyedListing,
  request: PageRequest,
): Page<Row> {
  const { filter, order, from, key, columns, join, sort } = listing;
  const direction = order[0]?.direction ?? "ASC";
  const places = order.map((_, index) => `place${index}`);
  const positions = order.map((term, index) => `${term.column} AS ${places[index] ?? ""}`).join(", ");
  const after = request.cursor === undefined ? null : readCursor(request.cursor, order, sort);
  const conditions = [...filter.conditions];
  if (after !== null) {
    const before = direction === "DESC" ? "<" : ">";
    conditions.push(`(${order.map((term) => term.column).join(", ")}) ${before} (${after.map(() => "?").join(", ")})`);
  }
  const where = conditions.length === 0 ? "" : ` WHERE ${conditions.join(" AND ")}`;
  const sorted = (terms: readonly string[]) => terms.map((term) => `${term} ${direction}`).join(", ");
  const sql = `SELECT ${columns}, json_array(${places.map((place) => `found.${place}`).join(", ")}) AS place
    FROM (SELECT ${key} AS key, ${positions} FROM ${from}${where}
      ORDER BY ${sorted(order.map((term) => term.column))} LIMIT ?) AS found CROSS JOIN ${join}
    ORDER BY ${sorted(places.map((place) => `found.${place}`))}`;
  const parameters = [...filter.parameters, ...(after ?? []), checkedLimit(request.limit) + 1];
  const rows = prepare<Position[], Row & { readonly place: string }>(database, sql).all(...parameters);
  const last = rows.length > request.limit ? rows[request.limit - 1] : undefined;
  const items = rows.slice(0, request.limit).map(({ place: _place, ...row }) => row as unknown as Row);
  return {
    items,
    nextCursor: last === undefined ? null : writeCursor([sort, ...(JSON.parse(last.place) as readonly Position[])]),
  };
}

/** A page with each row made into something else. */
export function mapPage<From, To>(page: Page<From>, map: (row: From) => To): Page<To> {
  return { items: page.items.map((row) => map(row)), nextCursor: page.nextCursor };
}

/** The LIKE pattern that finds `text` anywhere, for use with `ESCAPE '\'`. */
export function containing(text: string): string {
  return `%${text.replaceAll(/[\\%_]/g, String.raw`\$&`)}%`;
}

function checkedLimit(limit: number): number {
  if (!Number.isInteger(limit) || limit < 1 || limit > maxLimit) {
    throw new AppError("request-invalid", `limit must be a whole number from 1 to ${maxLimit}.`);
  }
  return limit;
}

/** Whether a cursor was given by this order of a list. */
export function isCursorOf(cursor: string, sort: string): boolean {
  const position = decodeCursor(cursor);
  return Array.isArray(position) && position[0] === sort;
}

function writeCursor(position: readonly Position[]): string {
  return Buffer.from(JSON.stringify(position)).toString("base64url");
}

/** @param sort the name of the order that has to stand first in it */
function readCursor(cursor: string, order: readonly OrderTerm[], sort?: string): readonly Position[] {
  const invalid = new AppError("request-invalid", "The cursor is not one that this list gave; start again without it.");
  const decoded = decodeCursor(cursor);
  if (!Array.isArray(decoded)) throw invalid;
  if (sort !== undefined && decoded[0] !== sort) throw invalid;
  const position: readonly unknown[] = sort === undefined ? decoded : decoded.slice(1);
  if (position.length !== order.length) throw invalid;
  return position.map((part: unknown, index) => {
    const { type } = order[index] ?? {};
    if (type === "text" && typeof part === "string") return part;
    if (type === "integer" && typeof part === "number" && Number.isSafeInteger(part)) return part;
    throw invalid;
  });
}

/** What stands in it; null when it is no cursor at all. */
function decodeCursor(cursor: string): unknown {
  if (cursor.length > maxCursorLength || !/^[A-Za-z0-9_-]+$/.test(cursor)) return null;
  try {
    return JSON.parse(Buffer.from(cursor, "base64url").toString("utf8"));
  } catch {
    return null;
  }
}
