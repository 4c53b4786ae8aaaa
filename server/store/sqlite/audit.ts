import { auditHash, canonicalJson, genesisHash } from "../../audit-chain.ts";
import type { ActorKind, AuditEntry, AuditFilter, AuditRow, AuditStore } from "../audit.ts";
import { type Connection, prepare } from "./database.ts";
import { filterBy, mapPage, newFilter, readPage } from "./pages.ts";

/** A row as the database holds it: null for what is absent, JSON text for the detail. */
interface StoredRow {
  readonly seq: number;
  readonly at: number;
  readonly actorKind: ActorKind;
  readonly actor: string;
  readonly action: string;
  readonly target: string | null;
  readonly requestId: string | null;
  readonly address: string | null;
  readonly detail: string | null;
  readonly previousHash: string;
  readonly hash: string;
}

/** The end of the chain: the next row's `seq - 1` and `previousHash`. */
export interface ChainTail {
  readonly seq: number;
  readonly hash: string;
}

/** Gives entries their place in the chain, inside the writer's transaction. */
export interface AuditChain {
  /** Reads the tail: at the start of each transaction, since another process may have written. */
  readonly begin: () => void;
  readonly append: (entries: readonly AuditEntry[]) => void;
  /** The tail now, and back to it when what was appended since has been rolled back. */
  readonly tail: () => ChainTail;
  readonly rewind: (tail: ChainTail) => void;
}

const columns =
  "seq, at, actor_kind AS actorKind, actor, action, target, request_id AS requestId, address, detail, previous_hash AS previousHash, hash";

export function auditReads(database: Connection): Pick<AuditStore, "listAudit" | "readAuditChain"> {
  const chain = prepare<[number, number], StoredRow>(
    database,
    `SELECT ${columns} FROM audit WHERE seq > ? ORDER BY seq LIMIT ?`,
  );
  return {
    async listAudit(request: AuditFilter) {
      const filter = newFilter();
      filterBy(filter, "actor = ?", request.actor);
      filterBy(filter, "action = ?", request.action);
      filterBy(filter, "target = ?", request.target);
      filterBy(filter, "at > ?", request.after);
      filterBy(filter, "at < ?", request.before);
      const page = readPage<StoredRow>(
        database,
        {
          select: `SELECT ${columns} FROM audit`,
          filter,
          order: [{ column: "seq", type: "integer", direction: "DESC" }],
          positionOf: (row) => [row.seq],
        },
        request,
      );
      return mapPage(page, toRow);
    },
    async readAuditChain(after, limit) {
      return chain.all(after, limit).map(toRow);
    },
  };
}

export function auditChain(database: Connection): AuditChain {
  const last = prepare<[], ChainTail>(database, "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1");
  const insert = prepare(
    database,
    `INSERT INTO audit (seq, at, actor_kind, actor, action, target, request_id, address, detail, previous_hash, hash)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  let tail: ChainTail = { seq: 0, hash: genesisHash };
  const appendOne = (entry: AuditEntry): void => {
    const row = { ...wellFormed(entry), seq: tail.seq + 1, previousHash: tail.hash };
    const hash = auditHash(row);
    insert.run(
      row.seq,
      row.at,
      row.actorKind,
      row.actor,
      row.action,
      row.target ?? null,
      row.requestId ?? null,
      row.address ?? null,
      row.detail === undefined ? null : canonicalJson(row.detail),
      row.previousHash,
      hash,
    );
    tail = { seq: row.seq, hash };
  };
  return {
    begin() {
      tail = last.get() ?? { seq: 0, hash: genesisHash };
    },
    append(entries) {
      for (const entry of entries) appendOne(entry);
    },
    tail: () => tail,
    rewind(to) {
      tail = to;
    },
  };
}

/** UTF-8 cannot hold a lone surrogate: without this the text read back would not be the text that was hashed. */
function wellFormed(entry: AuditEntry): AuditEntry {
  return {
    at: entry.at,
    actorKind: entry.actorKind,
    actor: entry.actor.toWellFormed(),
    action: entry.action.toWellFormed(),
    ...(entry.target === undefined ? {} : { target: entry.target.toWellFormed() }),
    ...(entry.requestId === undefined ? {} : { requestId: entry.requestId.toWellFormed() }),
    ...(entry.address === undefined ? {} : { address: entry.address.toWellFormed() }),
    ...(entry.detail === undefined ? {} : { detail: entry.detail }),
  };
}

function toRow(row: StoredRow): AuditRow {
  return {
    seq: row.seq,
    at: row.at,
    actorKind: row.actorKind,
    actor: row.actor,
    action: row.action,
    ...(row.target === null ? {} : { target: row.target }),
    ...(row.requestId === null ? {} : { requestId: row.requestId }),
    ...(row.address === null ? {} : { address: row.address }),
    ...(row.detail === null ? {} : { detail: JSON.parse(row.detail) as Record<string, unknown> }),
    previousHash: row.previousHash,
    hash: row.hash,
  };
}
