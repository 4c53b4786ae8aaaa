import { AppError } from "@newleaf/shared/problems";
import type { LineageRow, LineageState, LineageStore } from "../lineages.ts";
import type { WriteContext, Writes } from "./commands.ts";
import { type Connection, prepare } from "./database.ts";
import { leafUseReads } from "./leaf-uses.ts";
import { filterBy, mapPage, newFilter, readPage } from "./pages.ts";

interface StoredLineage extends Omit<LineageRow, "evidence"> {
  readonly no: number;
  readonly evidence: string | null;
}

const select = `SELECT no, id, identity, state, created_at AS createdAt, newest_generation AS newestGeneration,
  locked_at AS lockedAt, evidence FROM lineages`;

export function lineageReads(database: Connection): Omit<LineageStore, "lockLineage" | "releaseLineage"> {
  const byId = prepare<[string], StoredLineage>(database, `${select} WHERE id = ?`);
  const locked = prepare<[string], StoredLineage>(
    database,
    `${select} WHERE identity = ? AND state = 'locked' ORDER BY no DESC LIMIT 1`,
  );
  const countLocked = prepare<[], number>(database, "SELECT count(*) FROM lineages WHERE state = 'locked'").pluck();
  return {
    async findLineage(id) {
      const row = byId.get(id);
      return row === undefined ? null : toLineage(row);
    },
    async listLineages(request) {
      const filter = newFilter();
      filterBy(filter, "identity = ?", request.identity);
      filterBy(filter, "state = ?", request.state);
      const page = readPage<StoredLineage>(
        database,
        {
          select,
          filter,
          order: [{ column: "no", type: "integer", direction: "DESC" }],
          positionOf: (row) => [row.no],
        },
        request,
      );
      return mapPage(page, toLineage);
    },
    async findLockedLineage(identity) {
      const row = locked.get(identity);
      return row === undefined ? null : toLineage(row);
    },
    countLockedLineages: async () => countLocked.get() ?? 0,
    ...leafUseReads(database),
  };
}

export function lineageWrites(context: WriteContext): Pick<Writes, "lockLineage" | "releaseLineage"> {
  const { database } = context;
  const stateOf = prepare<[string], LineageState>(database, "SELECT state FROM lineages WHERE id = ?").pluck();
  const lock = prepare(
    database,
    "UPDATE lineages SET state = 'locked', locked_at = ?, evidence = ? WHERE id = ? AND state = 'active'",
  );
  const release = prepare(
    database,
    "UPDATE lineages SET state = 'active', locked_at = NULL, evidence = NULL WHERE id = ? AND state = 'locked'",
  );
  const mustExist = (id: string): void => {
    if (stateOf.get(id) === undefined) throw new AppError("not-found", `There is no lineage ${id}.`);
  };
  return {
    lockLineage(id, evidence, at, audit) {
      mustExist(id);
      const changed = lock.run(at, JSON.stringify(evidence), id).changes === 1;
      context.audit.append(audit);
      return changed;
    },
    releaseLineage(id, _at, audit) {
      mustExist(id);
      if (release.run(id).changes !== 1) {
        throw new AppError(
          "conflict",
          `Lineage ${id} is not locked (it is ${stateOf.get(id)}); there is nothing to release.`,
        );
      }
      context.audit.append(audit);
    },
  };
}

function toLineage({ no: _no, ...row }: StoredLineage): LineageRow {
  return { ...row, evidence: row.evidence === null ? null : (JSON.parse(row.evidence) as Record<string, unknown>) };
}
