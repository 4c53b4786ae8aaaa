import { auditHash, canonicalJson, genesisHash } from "../../audit-chain.ts";
import { AppError } from "@newleaf/shared/problems";
import type { ActorKind, AuditEntry, AuditRow, AuditStore, ChainTail, StoredCheckpoint } from "../audit.ts";
import { auditListing } from "./audit-listing.ts";
import type { WriteContext, Writes } from "./commands.ts";
import { type Connection, prepare } from "./database.ts";
import { mapPage, readPage } from "./pages.ts";

export type { ChainTail };

/** A row as the database holds it: null for what is absent, JSON text for the detail. */
export interface StoredRow {
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

/** Gives entries their place in the chain, inside the writer's transaction. */
export interface AuditChain {
  /** Reads the tail: at the start of each transaction, since another process may have written. */
  readonly begin: () => void;
  readonly append: (entries: readonly AuditEntry[]) => void;
  /** The tail now, and back to it when what was appended since has been rolled back. */
  readonly tail: () => ChainTail;
  readonly rewind: (tail: ChainTail) => void;
}

/** Of the table `audit`, as `StoredRow` names them. */
export const columns =
  "seq, at, actor_kind AS actorKind, actor, action, target, request_id AS requestId, address, detail, previous_hash AS previousHash, hash";

const selectTail = "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1";

type Reads = Pick<AuditStore, "listAudit" | "readAuditChain" | "auditTail" | "listCheckpoints">;

export function auditReads(database: Connection): Reads {
  const chain = prepare<[number, number], StoredRow>(
    database,
    `SELECT ${columns} FROM audit WHERE seq > ? ORDER BY seq LIMIT ?`,
  );
  const tail = prepare<[], ChainTail>(database, selectTail);
  const checkpoints = prepare<[number, number], StoredCheckpoint>(
    database,
    "SELECT no, line FROM audit_checkpoints WHERE no > ? ORDER BY no LIMIT ?",
  );
  return {
    async listAudit(request) {
      return mapPage(readPage<StoredRow>(database, auditListing(database, request), request), toRow);
    },
    async readAuditChain(after, limit) {
      return chain.all(after, limit).map(toRow);
    },
    auditTail: async () => tail.get() ?? null,
    listCheckpoints: async (after, limit) => checkpoints.all(after, limit),
  };
}

export function auditWrites(context: WriteContext): Pick<Writes, "recordAudit" | "recordCheckpoint"> {
  const { database, audit } = context;
  const hashOf = prepare<[number], string>(database, "SELECT hash FROM audit WHERE seq = ?").pluck();
  const insert = prepare(database, "INSERT INTO audit_checkpoints (seq, at, line) VALUES (?, ?, ?)");
  return {
    recordAudit(entries) {
      audit.append(entries);
    },
    recordCheckpoint({ seq, hash, at, line }) {
      if (hashOf.get(seq) !== hash) {
        throw new AppError(
          "internal",
          `The audit log has no row ${seq} with the hash of the checkpoint; it was altered.`,
        );
      }
      insert.run(seq, at, line);
    },
  };
}

export function auditChain(database: Connection): AuditChain {
  const last = prepare<[], ChainTail>(database, selectTail);
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
    ...(row.detail === null ? {} : { detail: readDetail(row.detail) }),
    previousHash: row.previousHash,
    hash: row.hash,
  };
}

/**
 * What was written is canonical JSON. A text that only reads the same (spaces, a member that stands twice) or is no JSON at all was
 * put there by somebody else: it is shown as it is, and so has another hash than the row.
 */
function readDetail(text: string): Readonly<Record<string, unknown>> {
  try {
    const detail = JSON.parse(text) as Record<string, unknown>;
    if (canonicalJson(detail) === text) return detail;
  } catch {
    // Shown as it is.
  }
  return { alteredText: text };
}
