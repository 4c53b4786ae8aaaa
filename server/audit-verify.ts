/**
 * Verification of an audit log, live or a copy: finds what was changed, removed, inserted or moved, and says where. Rows come page by
 * page in the order they lie; checkpoints are known before. Pure: it runs without the service.
 *
 * The chain shows every change that is not carried on to its end. Whoever can write the log can also hash everything after a change
 * anew, or cut the end off: that shows at the next checkpoint, which only the issuer's key can make. Rows after the last checkpoint
 * are protected by nothing but the chain.
 */
import type { KeyObject } from "node:crypto";
import { auditHash, genesisHash } from "./audit-chain.ts";
import { type Checkpoint, verifyCheckpoint } from "./audit-checkpoint.ts";
import type { AuditRow } from "./store/audit.ts";

export interface GivenCheckpoint {
  readonly checkpoint: Checkpoint;
  /** Where it was read, for messages: `checkpoints.log, line 3`. */
  readonly place: string;
  /** Kept apart from the log, where whoever altered the log could not take it away. */
  readonly offBox: boolean;
}

export type FindingKind = "altered" | "missing" | "order" | "link" | "checkpoint";

export interface Finding {
  readonly kind: FindingKind;
  /** The first row concerned. */
  readonly seq: number;
  readonly reason: string;
}

export interface AuditReport {
  readonly ok: boolean;
  readonly rows: number;
  readonly lastSeq: number | null;
  readonly lastHash: string;
  /** The first hundred, in the order they were met. */
  readonly findings: readonly Finding[];
  readonly findingCount: number;
  /** The last checkpoint that holds; null without one. */
  readonly covered: (Pick<Checkpoint, "seq" | "at" | "issuer"> & { readonly place: string }) | null;
  readonly checkpoints: number;
  /** Rows after the last checkpoint that holds. */
  readonly unprotected: number;
}

export interface AuditVerifier {
  /** The next rows, as they lie. Anything that is no row of an audit log is a finding. */
  add(rows: Iterable<AuditRow>): void;
  end(): AuditReport;
}

export interface VerifierOptions {
  /** Issuer id → public key of the issuers that are trusted to sign checkpoints. */
  readonly issuers: ReadonlyMap<string, KeyObject>;
  readonly checkpoints: readonly GivenCheckpoint[];
}

const maxFindings = 100;
const members: ReadonlySet<string> = new Set([
  "seq",
  "at",
  "actorKind",
  "actor",
  "action",
  "target",
  "requestId",
  "address",
  "detail",
  "previousHash",
  "hash",
]);

export function createAuditVerifier({ issuers, checkpoints }: VerifierOptions): AuditVerifier {
  const findings: Finding[] = [];
  let findingCount = 0;
  const find = (kind: FindingKind, seq: number, reason: string): void => {
    findingCount += 1;
    if (findings.length < maxFindings) findings.push({ kind, seq, reason });
  };
  const signed = checkSignatures(checkpoints, issuers, find);
  const walk = chainWalk(find);
  const marks = checkpointMarks(signed, find);
  return {
    add(rows) {
      for (const row of rows) {
        walk.next(row);
        marks.pass(row);
      }
    },
    end() {
      const { rows, seq: lastSeq, hash: lastHash } = walk.end();
      marks.end(lastSeq ?? 0);
      findRemoved(signed, find);
      const covered = marks.covered();
      return {
        ok: findingCount === 0,
        rows,
        lastSeq,
        lastHash,
        findings,
        findingCount,
        covered:
          covered === null
            ? null
            : {
                seq: covered.checkpoint.seq,
                at: covered.checkpoint.at,
                issuer: covered.checkpoint.issuer,
                place: covered.place,
              },
        checkpoints: checkpoints.length,
        unprotected: (lastSeq ?? 0) - (covered?.checkpoint.seq ?? 0),
      };
    },
  };
}

type Find = (kind: FindingKind, seq: number, reason: string) => void;

function checkSignatures(
  checkpoints: readonly GivenCheckpoint[],
  issuers: ReadonlyMap<string, KeyObject>,
  find: Find,
): readonly GivenCheckpoint[] {
  const valid: GivenCheckpoint[] = [];
  for (const given of checkpoints) {
    const { seq, at, issuer } = given.checkpoint;
    const verdict = verifyCheckpoint(given.checkpoint, issuers);
    if (verdict === "valid") valid.push(given);
    else if (verdict === "bad-signature") {
      find(
        "checkpoint",
        seq,
        `the signature of the checkpoint of row ${seq}, ${at} (${given.place}) does not hold: it was edited or forged`,
      );
    } else {
      find(
        "checkpoint",
        seq,
        `the checkpoint of row ${seq}, ${at} (${given.place}) is of issuer ${issuer.slice(0, 40)}, which is none of those trusted here`,
      );
    }
  }
  return valid.toSorted((a, b) => a.checkpoint.seq - b.checkpoint.seq);
}

/** Goes from row to row; after a break it takes up the chain again behind it, so that each break is told once and where it is. */
function chainWalk(find: Find) {
  let rows = 0;
  let seq = 0;
  /** Null behind a gap: then nothing can be said of the link. */
  let hash: string | null = genesisHash;
  let lastHash = genesisHash;
  const place = (row: AuditRow): boolean => {
    if (row.seq === seq + 1) return true;
    if (row.seq > seq + 1) {
      const gone = row.seq - seq - 1;
      find(
        "missing",
        seq + 1,
        `${gone === 1 ? `row ${seq + 1} is` : `rows ${seq + 1} to ${row.seq - 1} are`} missing before row ${row.seq}`,
      );
    } else {
      const why = row.seq === seq ? "it stands there twice" : "it is out of order";
      find("order", row.seq, `row ${row.seq} lies behind row ${seq}: ${why}`);
    }
    return false;
  };
  return {
    next(row: AuditRow): void {
      rows += 1;
      const follows = place(row);
      if (follows && hash !== null && row.previousHash !== hash) {
        find(
          "link",
          row.seq,
          `row ${row.seq}: its previousHash is not the hash of row ${row.seq - 1}: one of the two was replaced`,
        );
      }
      const foreign = Object.keys(row).find((name) => !members.has(name));
      if (foreign !== undefined)
        find("altered", row.seq, `row ${row.seq} was altered: a row has no member ${JSON.stringify(foreign)}`);
      else if (auditHash(row) !== row.hash) {
        find("altered", row.seq, `row ${row.seq} was altered: its hash is not the hash of its content`);
      }
      if (row.seq < seq) return;
      hash = row.hash;
      lastHash = row.hash;
      seq = row.seq;
    },
    end: () => ({ rows, seq: rows === 0 ? null : seq, hash: lastHash }),
  };
}

/** Compares each checkpoint with the row it signed, when that comes by. */
function checkpointMarks(signed: readonly GivenCheckpoint[], find: Find) {
  let index = 0;
  let covered: GivenCheckpoint | null = null;
  let told = 0;
  const since = (): string => (covered === null ? "row 1" : `row ${covered.checkpoint.seq + 1}`);
  return {
    pass(row: AuditRow): void {
      for (let mark = signed[index]; mark !== undefined && mark.checkpoint.seq <= row.seq; mark = signed[++index]) {
        const { seq, hash, at } = mark.checkpoint;
        if (seq === row.seq && hash === row.hash) covered = mark;
        else if (told !== seq) {
          told = seq;
          find(
            "checkpoint",
            seq,
            `row ${seq} is not the one that the checkpoint of ${at} (${mark.place}) signed: something from ${since()} to row ${seq} was rewritten`,
          );
        }
      }
    },
    end(lastSeq: number): void {
      const last = signed.at(-1);
      if (last === undefined || index >= signed.length) return;
      const { seq, at } = last.checkpoint;
      find(
        "missing",
        lastSeq + 1,
        `the log ends at row ${lastSeq}, but the checkpoint of ${at} (${last.place}) is of row ${seq}: its end was cut off${last.offBox ? " (or this copy is older than the checkpoint)" : ""}`,
      );
    },
    covered: (): GivenCheckpoint | null => covered,
  };
}

/** One that was kept elsewhere and is not in the log's own list any more, though later ones are. */
function findRemoved(signed: readonly GivenCheckpoint[], find: Find): void {
  const own = signed.filter((given) => !given.offBox);
  const newest = Math.max(...own.map((given) => Date.parse(given.checkpoint.at)));
  const known = new Set(own.map((given) => identityOf(given.checkpoint)));
  if (own.length === 0) return;
  for (const { checkpoint, offBox, place } of signed) {
    if (!offBox || known.has(identityOf(checkpoint)) || Date.parse(checkpoint.at) > newest) continue;
    find(
      "checkpoint",
      checkpoint.seq,
      `the checkpoint of row ${checkpoint.seq}, ${checkpoint.at} (${place}) was removed from the log's own`,
    );
  }
}

/** Without the signature: ECDSA makes another each time. */
function identityOf({ seq, hash, at, issuer }: Checkpoint): string {
  return `${seq} ${hash} ${at} ${issuer}`;
}
