/**
 * The service verifies its own audit log while it runs: what is new at every turn, and everything, the checkpoints included, once a
 * day. In slices, so that no request waits for it. A break is told once, with its row, and the gauge stays at 0 until the service is
 * started again: a log that was mended is no log that holds.
 */
import { setImmediate } from "node:timers/promises";
import { genesisHash, verifyAuditChain } from "../../audit-chain.ts";
import { findCheckpoint, issuerKeys, verifyCheckpoint } from "../../audit-checkpoint.ts";
import type { AuditRow, ChainTail } from "../../store/audit.ts";
import type { Authority } from "../authority.ts";

export interface AuditBreak {
  readonly seq: number;
  readonly reason: string;
}

export interface AuditWatch {
  /** One turn: some thousand rows at most. */
  run(): Promise<void>;
  /** What was found; null while the log holds. */
  readonly broken: AuditBreak | null;
  /** The newest row that has been verified. */
  readonly verified: ChainTail;
}

/** About 2 ms of reading and hashing. */
const rowsPerSlice = 250;
const slicesPerTurn = 25;
const checkpointsPerSlice = 25;
const fullEvery = 86_400_000;
const start: ChainTail = { seq: 0, hash: genesisHash };

const watches = new WeakMap<Authority, AuditWatch>();

/** Where the audit log was found broken since the service was started; null while it holds. */
export function auditBreakOf(authority: Authority): AuditBreak | null {
  return watches.get(authority)?.broken ?? null;
}

/** `elapsed`: milliseconds on a clock that nobody sets. */
export function createAuditWatch(authority: Authority, elapsed: () => number = () => performance.now()): AuditWatch {
  let broken: AuditBreak | null = null;
  /** The chain holds from its first row up to here. */
  let head = start;
  /** A later pass over rows that were verified before: how far it is, and the head at which it ends. */
  let pass: { at: ChainTail; readonly until: ChainTail } | null = null;
  let checkpoint: number | null = 0;
  let fullAt = elapsed();

  const follow = async (): Promise<boolean> => {
    const step = await verifyAfter(authority, head);
    if ("reason" in step) throw new Broken(step);
    head = step.at;
    return step.more;
  };
  const goOver = async (): Promise<boolean> => {
    if (pass === null) return false;
    const step = await verifyAfter(authority, pass.at);
    if ("reason" in step) throw new Broken(step);
    pass.at = step.at;
    if (step.more && step.at.seq < pass.until.seq) return true;
    pass = null;
    checkpoint = 0;
    return false;
  };
  const goOverCheckpoints = async (): Promise<boolean> => {
    if (checkpoint === null) return false;
    checkpoint = await verifyCheckpoints(authority, checkpoint);
    return checkpoint !== null;
  };
  const turn = async (): Promise<void> => {
    if (elapsed() - fullAt >= fullEvery) {
      fullAt = elapsed();
      pass ??= { at: start, until: head };
    }
    for (let slices = 0; slices < slicesPerTurn; slices++) {
      const more = (await follow()) || (await goOver()) || (await goOverCheckpoints());
      if (!more) return;
      await setImmediate();
    }
  };
  const watch: AuditWatch = {
    get broken() {
      return broken;
    },
    get verified() {
      return head;
    },
    async run() {
      if (broken !== null) return;
      try {
        await turn();
      } catch (error) {
        if (!(error instanceof Broken)) throw error;
        broken = error.found;
        authority.events.auditChainBroken(broken.seq, broken.reason);
      }
    },
  };
  watches.set(authority, watch);
  return watch;
}

class Broken extends Error {
  readonly found: AuditBreak;
  constructor(found: AuditBreak) {
    super(found.reason);
    this.found = found;
  }
}

type Step = { readonly at: ChainTail; readonly more: boolean } | AuditBreak;

/** The next slice after a row that was verified, which must still be there as it was. */
async function verifyAfter({ store }: Authority, last: ChainTail): Promise<Step> {
  const read = await store.readAuditChain(Math.max(0, last.seq - 1), rowsPerSlice + 1);
  const rows = last.seq === 0 ? read : read.slice(1);
  if (last.seq > 0 && !isRow(read[0], last)) {
    return { seq: last.seq, reason: `row ${last.seq} was changed or is gone since it was verified` };
  }
  const [first] = rows;
  if (first === undefined) return { at: last, more: false };
  if (first.seq !== last.seq + 1) return { seq: last.seq + 1, reason: `row ${last.seq + 1} is missing` };
  const verdict = verifyAuditChain(rows, last.hash);
  if (!verdict.ok) return { seq: verdict.seq, reason: verdict.reason };
  return {
    at: { seq: verdict.lastSeq ?? last.seq, hash: verdict.lastHash },
    more: rows.length >= rowsPerSlice,
  };
}

function isRow(row: AuditRow | undefined, { seq, hash }: ChainTail): boolean {
  return row !== undefined && row.seq === seq && row.hash === hash;
}

/** The next few of the stored checkpoints: signed by one of our issuers, and of a row that is there. Null when they are all done. */
async function verifyCheckpoints({ store, issuers }: Authority, after: number): Promise<number | null> {
  const found = await store.listCheckpoints(after, checkpointsPerSlice);
  const keys = issuerKeys(issuers.rows.map((row) => row.certificate));
  for (const { line, no } of found) {
    const checkpoint = findCheckpoint(line);
    if (checkpoint === null || verifyCheckpoint(checkpoint, keys) !== "valid") {
      throw new Broken({
        seq: checkpoint?.seq ?? 0,
        reason: `checkpoint ${no} was altered: it bears no signature of ours`,
      });
    }
    const [row] = await store.readAuditChain(checkpoint.seq - 1, 1);
    if (!isRow(row, checkpoint)) {
      throw new Broken({
        seq: checkpoint.seq,
        reason: `row ${checkpoint.seq} is not the one that was signed at ${checkpoint.at}`,
      });
    }
  }
  return found.length < checkpointsPerSlice ? null : (found.at(-1)?.no ?? null);
}
