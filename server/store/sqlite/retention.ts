import { AppError } from "@newleaf/shared/problems";
import type {
  ExpiryPosition,
  RetentionCounts,
  RetentionSlice,
  RetentionState,
  RetentionStep,
  RetentionStore,
} from "../retention.ts";
import type { WriteContext, Writes } from "./commands.ts";
import { type Connection, prepare } from "./database.ts";

interface ExpiredRow {
  readonly no: number;
  readonly notAfter: number;
  readonly serial: string;
  readonly issuerId: string;
  readonly identity: string;
  readonly lineage: string | null;
  readonly key: string;
  readonly removable: 0 | 1;
}

interface StoredState extends RetentionCounts {
  readonly horizon: number;
  readonly endedAt: number | null;
}

const maxLimit = 5_000;
/** Before anything was ever removed. */
const noHorizon = Number.MIN_SAFE_INTEGER;
const nothing: RetentionCounts = { certificates: 0, lineages: 0, keys: 0, tokens: 0, requests: 0, grants: 0 };

const selectState =
  "SELECT horizon, ended_at AS endedAt, certificates, lineages, keys, tokens, requests, grants FROM retention";

/** Why each condition is there: see `RetentionStore`. A CRL of an issuer that itself ended before the horizon is nobody's need. */
const selectSlice = `SELECT c.no, c.not_after AS notAfter, c.serial, c.issuer_id AS issuerId, c.identity, c.lineage,
    c.key_fingerprint AS "key",
    NOT EXISTS (SELECT 1 FROM lineages l WHERE l.id = c.lineage AND l.state = 'locked')
    AND (EXISTS (SELECT 1 FROM certificates newer WHERE newer.identity = c.identity AND newer.no > c.no)
      OR EXISTS (SELECT 1 FROM identities i WHERE i.id = c.identity AND i.state = 'removed'))
    AND NOT EXISTS (
      SELECT 1 FROM revocations r JOIN issuers s ON s.id = r.issuer_id
      WHERE r.issuer_id = c.issuer_id AND r.serial = c.serial AND s.not_after >= ?
        AND r.not_after >= coalesce((SELECT this_update FROM crls WHERE issuer_id = r.issuer_id ORDER BY number DESC LIMIT 1), 0)
    ) AS removable
  FROM certificates c INDEXED BY certificates_by_end
  WHERE c.not_after < ? AND (c.not_after, c.no) > (?, ?) ORDER BY c.not_after, c.no LIMIT ?`;

export function retentionReads(database: Connection): Pick<RetentionStore, "retentionState" | "findExpired"> {
  const state = prepare<[], StoredState>(database, selectState);
  const slice = sliceReader(database);
  const count = (table: string) =>
    prepare<[number, number], number>(
      database,
      `SELECT count(*) FROM (SELECT 1 FROM ${table} WHERE expires_at < ? LIMIT ?)`,
    ).pluck();
  const [tokens, requests, grants] = [count("tokens"), count("requests"), count("grants")];
  return {
    retentionState: async () => toState(state.get()),
    async findExpired(request) {
      const { rows, next } = slice(request);
      const counts = {
        ...nothing,
        certificates: rows.filter((row) => row.removable === 1).length,
        tokens: tokens.get(request.before, request.limit) ?? 0,
        requests: requests.get(request.before, request.limit) ?? 0,
        grants: grants.get(request.before, request.limit) ?? 0,
      };
      return { counts, next };
    },
  };
}

export function retentionWrites(context: WriteContext): Pick<Writes, "forgetExpired" | "endRetention"> {
  const { database } = context;
  const state = prepare<[], StoredState>(database, selectState);
  const moveHorizon = prepare(database, "UPDATE retention SET horizon = ? WHERE horizon < ?");
  const add = prepare(
    database,
    `UPDATE retention SET certificates = certificates + ?, lineages = lineages + ?, keys = keys + ?, tokens = tokens + ?,
       requests = requests + ?, grants = grants + ?`,
  );
  const end = prepare(
    database,
    `UPDATE retention SET ended_at = ?, certificates = 0, lineages = 0, keys = 0, tokens = 0, requests = 0, grants = 0`,
  );
  const slice = sliceReader(database);
  const forget = forgetter(database);
  const drop = (table: string) =>
    prepare(
      database,
      `DELETE FROM ${table} WHERE no IN (SELECT no FROM ${table} WHERE expires_at < ? ORDER BY expires_at, no LIMIT ?)`,
    );
  const [tokens, requests, grants] = [drop("tokens"), drop("requests"), drop("grants")];
  return {
    forgetExpired(request): RetentionStep {
      // First: the trigger that keeps certificates looks at it.
      moveHorizon.run(request.before, request.before);
      const { rows, next } = slice(request);
      const removed = forget(rows.filter((row) => row.removable === 1));
      const counts = {
        ...removed,
        tokens: tokens.run(request.before, request.limit).changes,
        requests: requests.run(request.before, request.limit).changes,
        grants: grants.run(request.before, request.limit).changes,
      };
      add.run(counts.certificates, counts.lineages, counts.keys, counts.tokens, counts.requests, counts.grants);
      return { counts, next };
    },
    endRetention(at, entry) {
      const { open } = toState(state.get());
      end.run(at);
      context.audit.append([{ ...entry, detail: { ...entry.detail, ...open } }]);
      return open;
    },
  };
}

type ReadSlice = (slice: RetentionSlice) => {
  readonly rows: readonly ExpiredRow[];
  readonly next: ExpiryPosition | null;
};

function sliceReader(database: Connection): ReadSlice {
  const select = prepare<number[], ExpiredRow>(database, selectSlice);
  return ({ before, after, limit }) => {
    if (!Number.isSafeInteger(limit) || limit < 1 || limit > maxLimit) {
      throw new AppError("internal", `A slice of retention has 1 to ${maxLimit} rows, not ${limit}.`);
    }
    const rows = select.all(before, before, after?.notAfter ?? noHorizon, after?.no ?? 0, limit);
    const last = rows.length === limit ? rows.at(-1) : undefined;
    return { rows, next: last === undefined ? null : { notAfter: last.notAfter, no: last.no } };
  };
}

/** Takes certificates away with what is nothing without them. */
function forgetter(
  database: Connection,
): (rows: readonly ExpiredRow[]) => Pick<RetentionCounts, "certificates" | "lineages" | "keys"> {
  const revocation = prepare(database, "DELETE FROM revocations WHERE issuer_id = ? AND serial = ?");
  const certificate = prepare(database, "DELETE FROM certificates WHERE no = ?");
  // Of a removed identity no lineage goes on, whatever its state says.
  const lineage = prepare(
    database,
    `DELETE FROM lineages WHERE id = ? AND state <> 'locked'
       AND (state = 'ended' OR identity IN (SELECT id FROM identities WHERE state = 'removed'))
       AND NOT EXISTS (SELECT 1 FROM certificates WHERE lineage = lineages.id)`,
  );
  const key = prepare(
    database,
    `DELETE FROM keys WHERE fingerprint = ? AND position IS NULL
       AND fingerprint NOT IN (SELECT fingerprint FROM blocked_keys)
       AND NOT EXISTS (SELECT 1 FROM certificates c WHERE c.identity = keys.identity AND c.key_fingerprint = keys.fingerprint)`,
  );
  return (rows) => {
    for (const row of rows) {
      revocation.run(row.issuerId, row.serial);
      certificate.run(row.no);
    }
    let lineages = 0;
    let keys = 0;
    for (const id of new Set(rows.map((row) => row.lineage))) if (id !== null) lineages += lineage.run(id).changes;
    for (const fingerprint of new Set(rows.map((row) => row.key))) keys += key.run(fingerprint).changes;
    return { certificates: rows.length, lineages, keys };
  };
}

function toState(row: StoredState | undefined): RetentionState {
  if (row === undefined) throw new AppError("internal", "The store's row about retention is gone.");
  const { horizon, endedAt, ...open } = row;
  return { horizon: horizon === noHorizon ? null : horizon, endedAt, open };
}
