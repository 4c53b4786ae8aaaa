import type { RestoreStore, UnvouchedRow } from "../restores.ts";
import { StaleBasis } from "../store.ts";
import type { WriteContext, Writes } from "./commands.ts";
import { type Connection, prepare } from "./database.ts";
import { filterBy, mapPage, newFilter, readPage } from "./pages.ts";

type StoredUnvouched = UnvouchedRow & { readonly no: number };

const select = `SELECT no, serial, issuer_id AS issuerId, identity, key_fingerprint AS "key", not_before AS notBefore,
  not_after AS notAfter, address, first_seen_at AS firstSeenAt, last_seen_at AS lastSeenAt, state, decided_by AS decidedBy,
  decided_at AS decidedAt, der FROM unvouched`;

export function unvouchedReads(
  database: Connection,
): Pick<RestoreStore, "listUnvouched" | "findUnvouched" | "countOpenUnvouched"> {
  const bySerial = prepare<[string], StoredUnvouched>(database, `${select} WHERE serial = ?`);
  const open = prepare<[], number>(database, "SELECT count(*) FROM unvouched WHERE state = 'open'").pluck();
  return {
    async listUnvouched(request) {
      const filter = newFilter();
      filterBy(filter, "state = ?", request.state);
      const page = readPage<StoredUnvouched>(
        database,
        {
          select,
          filter,
          order: [{ column: "no", type: "integer", direction: "DESC" }],
          positionOf: (row) => [row.no],
        },
        request,
      );
      return mapPage(page, toUnvouched);
    },
    async findUnvouched(serial) {
      const row = bySerial.get(serial);
      return row === undefined ? null : toUnvouched(row);
    },
    countOpenUnvouched: async () => open.get() ?? 0,
  };
}

/** `writes`: an adopted leaf and a revoked one go through the same doors as every other. */
export function unvouchedWrites(
  context: WriteContext,
  writes: Pick<Writes, "recordIssuance" | "revoke">,
): Pick<Writes, "noteUnvouched" | "adoptUnvouched" | "revokeUnvouched"> {
  const { database } = context;
  const decide = prepare(
    database,
    "UPDATE unvouched SET state = ?, decided_by = ?, decided_at = ? WHERE serial = ? AND state = 'open'",
  );
  const settle = (serial: string, state: "adopted" | "revoked", by: string, at: number): void => {
    if (decide.run(state, by, at, serial).changes !== 1) {
      throw new StaleBasis(`The unvouched leaf ${serial} is no longer open.`);
    }
  };
  return {
    noteUnvouched: noter(context),
    adoptUnvouched(record, by) {
      settle(record.certificate.serial, "adopted", by, record.certificate.issuedAt);
      writes.recordIssuance(record);
    },
    revokeUnvouched(serial, act, by, at) {
      settle(serial, "revoked", by, at);
      writes.revoke(act);
    },
  };
}

function noter({ database, audit }: WriteContext): Writes["noteUnvouched"] {
  const dropEnded = prepare(database, "DELETE FROM unvouched WHERE not_after < ?");
  const again = prepare(database, "UPDATE unvouched SET address = ?, last_seen_at = ? WHERE serial = ?");
  const revoked = prepare<[string, string], number>(
    database,
    "SELECT 1 FROM revocations WHERE issuer_id = ? AND serial = ?",
  ).pluck();
  const open = prepare<[], number>(database, "SELECT count(*) FROM unvouched WHERE state = 'open'").pluck();
  const insert = prepare(
    database,
    `INSERT INTO unvouched (serial, issuer_id, identity, key_fingerprint, not_before, not_after, address, first_seen_at,
       last_seen_at, state, der) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'open', ?)`,
  );
  return (sight, at, max, entries) => {
    dropEnded.run(at);
    if (again.run(sight.address, at, sight.serial).changes > 0) return false;
    if (revoked.get(sight.issuerId, sight.serial) !== undefined || (open.get() ?? 0) >= max) return false;
    insert.run(
      sight.serial,
      sight.issuerId,
      sight.identity,
      sight.key,
      sight.notBefore,
      sight.notAfter,
      sight.address,
      at,
      at,
      sight.der,
    );
    audit.append(entries);
    return true;
  };
}

function toUnvouched({ no: _no, ...row }: StoredUnvouched): UnvouchedRow {
  return row;
}
