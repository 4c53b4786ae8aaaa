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
  if (!Number.isInteger(request.limit) || request.limit < 1 || request.limit > maxLimit) {
    throw new AppError("request-invalid", `limit must be a whole number from 1 to ${maxLimit}.`);
  }
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

/** A page with each row made into something else. */
export function mapPage<From, To>(page: Page<From>, map: (row: From) => To): Page<To> {
  return { items: page.items.map((row) => map(row)), nextCursor: page.nextCursor };
}

/** The LIKE pattern that finds `text` anywhere, for use with `ESCAPE '\'`. */
export function containing(text: string): string {
  return `%${text.replaceAll(/[\\%_]/g, String.raw`\$&`)}%`;
}

function writeCursor(position: readonly Position[]): string {
  return Buffer.from(JSON.stringify(position)).toString("base64url");
}

function readCursor(cursor: string, order: readonly OrderTerm[]): readonly Position[] {
  const invalid = new AppError("request-invalid", "The cursor is not one that this list gave; start again without it.");
  if (cursor.length > maxCursorLength || !/^[A-Za-z0-9_-]+$/.test(cursor)) throw invalid;
  let position: unknown;
  try {
    position = JSON.parse(Buffer.from(cursor, "base64url").toString("utf8"));
  } catch {
    throw invalid;
  }
  if (!Array.isArray(position) || position.length !== order.length) throw invalid;
  return position.map((part: unknown, index) => {
    const { type } = order[index] ?? {};
    if (type === "text" && typeof part === "string") return part;
    if (type === "integer" && typeof part === "number" && Number.isSafeInteger(part)) return part;
    throw invalid;
  });
}
