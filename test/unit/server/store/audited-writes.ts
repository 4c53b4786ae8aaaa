import assert from "node:assert/strict";
import type { AuditEntry } from "../../../../server/store/audit.ts";
import { type WriteName, writeNames } from "../../../../server/store/sqlite/commands.ts";
import type { Store } from "../../../../server/store/store.ts";

/** Writes that leave no row in the audit log, and why that is right. Every other write has to. */
const unaudited: Readonly<Partial<Record<WriteName, string>>> = {
  ping: "changes nothing that counts",
  recordReport: "what an agent says of itself, every few minutes",
  recordSeen: "the same",
  recordCheckpoint: "is about the log: a row for it would need a checkpoint of its own",
  forgetExpired: "its counts stand in the row of endRetention",
  cutJournal: "the journal's own",
  beginIdempotent: "the act that the key stands for has its row",
  finishIdempotent: "the same",
  abandonIdempotent: "the same",
  dropIdempotent: "the same",
};

export interface AuditedWrites {
  /** The same store, watched. */
  watch(store: Store): Store;
  /** Fails naming the writes of which no call brought its entry into the log. */
  check(): void;
}

/** Watches, through the whole contract suite, that each kind of write puts the entries it is handed into the log. */
export function auditedWrites(): AuditedWrites {
  const seen = new Set<WriteName>();
  const watched = (store: Store, name: WriteName) => {
    const write = store[name] as (...given: readonly unknown[]) => Promise<unknown>;
    return async (...given: readonly unknown[]): Promise<unknown> => {
      const before = seen.has(name) ? null : await store.auditTail();
      const result = await write(...given);
      if (seen.has(name)) return result;
      const wanted = entriesIn(given, 0).map((entry) => entry.action);
      const rows = await store.readAuditChain(before?.seq ?? 0, 1000);
      if (wanted.length > 0 && wanted.every((action) => rows.some((row) => row.action === action))) seen.add(name);
      return result;
    };
  };
  return {
    watch(store) {
      const writers = Object.fromEntries(writeNames.map((name) => [name, watched(store, name)]));
      return { ...store, ...writers };
    },
    check() {
      const missing = writeNames.filter((name) => !seen.has(name) && unaudited[name] === undefined);
      assert.deepEqual(missing, [], "writes that no test of the contract has seen in the audit log");
      const needless = Object.keys(unaudited).filter((name) => seen.has(name as WriteName));
      assert.deepEqual(needless, [], "writes that are excused and need not be");
    },
  };
}

/** Whatever in the arguments is an audit entry. */
function entriesIn(value: unknown, depth: number): readonly AuditEntry[] {
  if (typeof value !== "object" || value === null || value instanceof Uint8Array || depth > 3) return [];
  if ("actorKind" in value && "action" in value) return [value as AuditEntry];
  return Object.values(value).flatMap((part) => entriesIn(part, depth + 1));
}
