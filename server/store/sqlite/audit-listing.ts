import type { AuditFilter } from "../audit.ts";
import { columns, type StoredRow } from "./audit.ts";
import { type Connection, prepare } from "./database.ts";
import { type Filter, filterBy, type Listing, newFilter } from "./pages.ts";

/** Up to so many rows are fetched by an index and sorted; of more, enough are met soon when they are gone through in order. */
const fewRows = 5_000;

/** After every character that an action may go on with. */
const beyond = "\u{10FFFF}";

/**
 * How a list of audit rows is read. The log is the largest table there is, so the condition that leads the search is chosen by what
 * it finds; a leading `+` keeps SQLite from using a column's index.
 */
export function auditListing(database: Connection, request: AuditFilter): Listing<StoredRow> {
  const filter = newFilter();
  filterBy(filter, "actor = ?", request.actor);
  filterBy(filter, "target = ?", request.target);
  filterBy(filter, "request_id = ?", request.requestId);
  filterBy(
    filter,
    "seq IN (SELECT seq FROM audit WHERE target = ? UNION ALL SELECT seq FROM audit WHERE identity = ?)",
    request.identity,
    request.identity,
  );
  filterBy(filter, "seq > ?", request.after);
  const isSelective = filter.conditions.length > 0;
  const byAction = !isSelective && request.action !== undefined && isFew(database, request.action);
  const byTime = !isSelective && !byAction && (request.since !== undefined || request.until !== undefined);
  filterByAction(filter, request.action, byAction ? "" : "+");
  filterBy(filter, `${byTime ? "" : "+"}at >= ?`, request.since);
  filterBy(filter, `${byTime ? "" : "+"}at < ?`, request.until);
  const direction = request.after === undefined ? "DESC" : "ASC";
  return {
    select: `SELECT ${columns} FROM audit`,
    filter,
    order: [
      // Clocks step: rows of one stretch of time are those that say so, not those between two numbers.
      ...(byTime ? [{ column: "at", type: "integer", direction } as const] : []),
      { column: "seq", type: "integer", direction },
    ],
    positionOf: (row) => (byTime ? [row.at, row.seq] : [row.seq]),
  };
}

function filterByAction(filter: Filter, action: string | undefined, prefix: "" | "+"): void {
  if (action === undefined) return;
  if (action.endsWith(".")) {
    filterBy(filter, `${prefix}action >= ? AND ${prefix}action < ?`, action, action + beyond);
  } else {
    filterBy(filter, `${prefix}action = ?`, action);
  }
}

function isFew(database: Connection, action: string): boolean {
  const filter = newFilter();
  filterByAction(filter, action, "");
  const sql = `SELECT count(*) FROM (SELECT 1 FROM audit WHERE ${filter.conditions.join(" AND ")} LIMIT ${fewRows})`;
  const found =
    prepare<(string | number)[], number>(database, sql)
      .pluck()
      .get(...filter.parameters) ?? 0;
  return found < fewRows;
}
