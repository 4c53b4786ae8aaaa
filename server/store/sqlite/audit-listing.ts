import type { AuditFilter } from "../audit.ts";
import { columns, type StoredRow } from "./audit.ts";
import { type Connection, prepare } from "./database.ts";
import { type Filter, filterBy, type Listing, newFilter } from "./pages.ts";

/** Up to so many rows are fetched by an index and sorted; of more, enough are met soon when they are gone through in order. */
const fewRows = 5_000;

/** After every character that an action may go on with. */
const beyond = "\u{10FFFF}";

/** What leads the search: somebody's or something's rows, those of an action, those of a time, or the log as it lies. */
type Lead = "subject" | "action" | "time" | "none";

/**
 * How a list of audit rows is read. The log is the largest table there is, so the condition that leads the search is chosen by what
 * it finds; a leading `+` keeps SQLite from using a column's index. The order is chosen by the request alone: a cursor must still fit
 * when more rows have come.
 */
export function auditListing(database: Connection, request: AuditFilter): Listing<StoredRow> {
  // Who follows the log is near its end, and is to have it in the order it was written.
  const isTimed = request.after === undefined && (request.since !== undefined || request.until !== undefined);
  const lead = leadOf(database, request, isTimed);
  const filter = newFilter();
  filterBySubject(filter, request, lead === "subject" ? "" : "+");
  filterByAction(filter, request, lead === "action" ? "" : "+");
  filterByTime(filter, request, lead === "time" ? "" : "+");
  filterBy(filter, "seq > ?", request.after);
  const direction = request.after === undefined ? "DESC" : "ASC";
  return {
    select: `SELECT ${columns} FROM audit`,
    filter,
    order: [
      // Clocks step: rows of one stretch of time are those that say so, not those between two numbers.
      ...(isTimed ? [{ column: "at", type: "integer", direction } as const] : []),
      { column: "seq", type: "integer", direction },
    ],
    positionOf: (row) => (isTimed ? [row.at, row.seq] : [row.seq]),
  };
}

function leadOf(database: Connection, request: AuditFilter, isTimed: boolean): Lead {
  const { actor, target, identity, requestId, action } = request;
  const isFew = (put: (filter: Filter, by: AuditFilter, prefix: "") => void): boolean => {
    const filter = newFilter();
    put(filter, request, "");
    const sql = `SELECT count(*) FROM (SELECT 1 FROM audit WHERE ${filter.conditions.join(" AND ")} LIMIT ${fewRows})`;
    return (
      (prepare<(string | number)[], number>(database, sql)
        .pluck()
        .get(...filter.parameters) ?? 0) < fewRows
    );
  };
  const hasSubject = [actor, target, identity, requestId].some((value) => value !== undefined);
  // Without a time the index has them in the log's own order, however many there are; so it is with one whole action.
  if (hasSubject && (!isTimed || isFew(filterBySubject))) return "subject";
  if (!hasSubject && action !== undefined && ((!action.endsWith(".") && !isTimed) || isFew(filterByAction))) {
    return "action";
  }
  return isTimed ? "time" : "none";
}

function filterBySubject(filter: Filter, request: AuditFilter, prefix: "" | "+"): void {
  filterBy(filter, `${prefix}actor = ?`, request.actor);
  filterBy(filter, `${prefix}target = ?`, request.target);
  filterBy(filter, `${prefix}request_id = ?`, request.requestId);
  filterBy(
    filter,
    `${prefix}seq IN (SELECT seq FROM audit WHERE target = ? UNION ALL SELECT seq FROM audit WHERE identity = ?)`,
    request.identity,
    request.identity,
  );
}

function filterByAction(filter: Filter, { action }: AuditFilter, prefix: "" | "+"): void {
  if (action === undefined) return;
  if (action.endsWith(".")) {
    filterBy(filter, `${prefix}action >= ? AND ${prefix}action < ?`, action, action + beyond);
  } else {
    filterBy(filter, `${prefix}action = ?`, action);
  }
}

function filterByTime(filter: Filter, { since, until }: AuditFilter, prefix: "" | "+"): void {
  filterBy(filter, `${prefix}at >= ?`, since);
  filterBy(filter, `${prefix}at < ?`, until);
}
