import { AppError } from "@newleaf/shared/problems";
import type { PauseRow, PauseStore } from "../pauses.ts";
import type { WriteContext, Writes } from "./commands.ts";
import { type Connection, prepare } from "./database.ts";
import { filterBy, mapPage, newFilter, readPage } from "./pages.ts";

type StoredPause = PauseRow & { readonly no: number };

const select = `SELECT no, subject, identity, serial, key_fingerprint AS "key", code, reason, basis, since, until, refusals, address FROM pauses`;

export function pauseReads(database: Connection): Pick<PauseStore, "listPauses"> {
  return {
    async listPauses(request) {
      const filter = newFilter();
      filterBy(filter, "until > ?", request.now);
      filterBy(filter, "identity = ?", request.identity);
      const page = readPage<StoredPause>(
        database,
        {
          select,
          filter,
          order: [{ column: "no", type: "integer", direction: "DESC" }],
          positionOf: (row) => [row.no],
        },
        request,
      );
      return mapPage(page, ({ no: _no, ...row }) => row);
    },
  };
}

export function pauseWrites(context: WriteContext): Pick<Writes, "recordPause" | "liftPauses"> {
  const { database } = context;
  const dropOver = prepare(database, "DELETE FROM pauses WHERE until <= ? OR subject = ?");
  const insert = prepare(
    database,
    `INSERT INTO pauses (subject, identity, serial, key_fingerprint, code, reason, basis, since, until, refusals, address)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  const lift = prepare<[string, number], string>(
    database,
    "DELETE FROM pauses WHERE identity = ? AND until > ? RETURNING subject",
  ).pluck();
  return {
    recordPause(p, audit) {
      dropOver.run(p.since, p.subject);
      insert.run(
        p.subject,
        p.identity,
        p.serial,
        p.key,
        p.code,
        p.reason,
        p.basis,
        p.since,
        p.until,
        p.refusals,
        p.address,
      );
      context.audit.append(audit);
    },
    liftPauses(identity, at, audit) {
      const subjects = lift.all(identity, at);
      if (subjects.length === 0) throw new AppError("not-found", `Nothing of ${identity} is paused.`);
      context.audit.append(audit);
      return subjects;
    },
  };
}
