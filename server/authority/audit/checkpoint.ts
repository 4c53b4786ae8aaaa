/**
 * Checkpoints of the audit log: at start, at every interval and at stop its end is signed by the active issuer, kept in the store,
 * and written to the log and to the targets off this machine. A target that fails is told of, counted and tried again; nobody waits for it.
 */
import { AppError } from "@newleaf/shared/problems";
import {
  type Checkpoint,
  checkpointLine,
  findCheckpoint,
  issuerKeys,
  signCheckpoint,
  verifyCheckpoint,
} from "../../audit-checkpoint.ts";
import type { Authority } from "../authority.ts";
import { activeIssuer } from "../issuers.ts";

/** Somewhere that who alters the log cannot reach. */
export interface CheckpointTarget {
  readonly name: "file" | "syslog";
  /** Resolves when the line is there, as far as the target can tell. `at` in milliseconds. */
  deliver(line: string, at: number): Promise<void>;
  /** The newest lines, oldest first, where the target can be read. Rejects when it cannot now. */
  newest?(): Promise<readonly string[]>;
}

export interface Checkpoints {
  /**
   * Compares the log with the newest checkpoint of each target that can be read: was it cut off or put back while the service was
   * stopped? What a restore could not bring back is excused: it is in the log. A target that cannot be read is passed over.
   */
  compare(): Promise<void>;
  /** Writes one now. @throws AppError issuer-unavailable, or what the store threw; it is tried again at the next `run` */
  write(): Promise<Checkpoint | null>;
  /** Writes one when it is due, and has what waits delivered. Never waits for a target. */
  run(): Promise<void>;
  /** The last one, and what waits, within a few seconds. */
  stop(): Promise<void>;
}

/** Each later checkpoint says all that an earlier one did: of what cannot be delivered only the newest are kept. */
const maxWaiting = 100;
const firstPauseMs = 5_000;
const longestPauseMs = 300_000;
const stopWaitMs = 2_000;

export function createCheckpoints(authority: Authority, targets: readonly CheckpointTarget[]): Checkpoints {
  const { store, clock, events, config, issuers } = authority;
  const outboxes = targets.map((target) => outbox(authority, target));
  let lastAt: number | null = null;

  const write = async (): Promise<Checkpoint | null> => {
    const end = await store.auditTail();
    if (end === null) return null;
    const at = clock.now();
    const checkpoint = signCheckpoint(end, at, activeIssuer(issuers));
    const line = checkpointLine(checkpoint);
    // First the store: one that only others know would look as if it had been removed here.
    await store.recordCheckpoint({ ...end, at, line });
    lastAt = at;
    events.checkpointed(checkpoint);
    for (const box of outboxes) box.offer(line, at);
    return checkpoint;
  };
  const isDue = (): boolean => {
    const now = clock.now();
    // A clock that stepped back must not stop them.
    return lastAt === null || now - lastAt >= config.audit.checkpoints.interval || now < lastAt;
  };
  return {
    write,
    async compare() {
      for (const target of targets) await compareWith(authority, target);
    },
    async run() {
      for (const box of outboxes) box.retry();
      if (isDue()) await write();
    },
    async stop() {
      try {
        await write();
      } catch (error) {
        // Without an issuer there is nobody to sign it, and that is known.
        if (!(error instanceof AppError && error.code === "issuer-unavailable"))
          events.faulted(error, "the last audit checkpoint");
      }
      const flushed = Promise.all(outboxes.map((box) => box.flush()));
      await Promise.race([flushed, new Promise((resolve) => setTimeout(resolve, stopWaitMs).unref())]);
    },
  };
}

async function compareWith(authority: Authority, target: CheckpointTarget): Promise<void> {
  const { store, events, issuers } = authority;
  const keys = issuerKeys(issuers.rows.map((row) => row.certificate));
  let lines: readonly string[];
  try {
    lines = (await target.newest?.()) ?? [];
  } catch {
    // The next delivery says what is wrong with it.
    return;
  }
  const ours = lines
    .map(findCheckpoint)
    .findLast((checkpoint) => checkpoint !== null && verifyCheckpoint(checkpoint, keys) === "valid");
  if (ours == null) return;
  const { seq, hash, at } = ours;
  const [row] = await store.readAuditChain(seq - 1, 1);
  if (row?.seq === seq && row.hash === hash) return;
  // One that was complete brought every row back; if not, its journal had lost its end, and what was revoked there is not.
  const restored = await store.latestRestore({ complete: false });
  if (restored !== null && restored.at >= Date.parse(at)) return;
  events.auditChainBroken(
    seq,
    `the checkpoint of ${at} in the ${target.name} is of a row ${seq} that the log ${row?.seq === seq ? "has otherwise" : "does not have: its end was cut off, or an older copy was put in its place"}`,
  );
}

/** One target's queue: in order, one at a time, with growing pauses while it fails. */
function outbox({ events }: Authority, target: CheckpointTarget) {
  const waiting: { readonly line: string; readonly at: number }[] = [];
  let running: Promise<void> | null = null;
  let failures = 0;
  let notBefore = 0;
  const drain = async (): Promise<void> => {
    for (let next = waiting[0]; next !== undefined; next = waiting[0]) {
      try {
        await target.deliver(next.line, next.at);
      } catch (error) {
        notBefore = performance.now() + Math.min(longestPauseMs, firstPauseMs * 2 ** failures);
        failures += 1;
        events.checkpointUndelivered(target.name, error, waiting.length);
        return;
      }
      failures = 0;
      notBefore = 0;
      events.checkpointDelivered(target.name, next.at);
      if (waiting[0] === next) waiting.shift();
    }
  };
  const start = (): Promise<void> => {
    running ??= drain().finally(() => {
      running = null;
    });
    return running;
  };
  return {
    offer(line: string, at: number): void {
      waiting.push({ line, at });
      if (waiting.length > maxWaiting) waiting.shift();
      if (performance.now() >= notBefore) void start();
    },
    retry(): void {
      if (waiting.length > 0 && performance.now() >= notBefore) void start();
    },
    async flush(): Promise<void> {
      await running;
      if (waiting.length > 0) await start();
    },
  };
}
