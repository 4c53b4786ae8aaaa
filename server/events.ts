/** One function for each business event: its log line and its metric together. The audit row is written with the act itself. */
import type { AgentReport } from "@newleaf/shared/api";
import type { ProblemCode } from "@newleaf/shared/problems";
import type { Logger } from "pino";
import { type Checkpoint, checkpointLine } from "./audit-checkpoint.ts";
import type { TurnedAwayReason } from "./authority/herd/admission.ts";
import type { Metrics } from "./metrics.ts";
import type { BackupSummary } from "./authority/backups.ts";
import type { NewCertificate, PresentedLeaf } from "./store/certificates.ts";
import type { CrlRecord } from "./store/issuers.ts";
import type { JournalEvent } from "./store/journal.ts";
import type { PauseRow } from "./store/pauses.ts";
import type { RevocationRecord } from "./store/revocations.ts";

/** Why a connection or its leaf was turned away, as the metric names it. */
export type HandshakeFailure =
  | "expired"
  | "unknown-ca"
  | "no-certificate"
  | "revoked"
  | "protocol"
  | "cipher"
  | "timeout"
  | "reset"
  | "peer-distrusts-us"
  | "other";

export type Events = ReturnType<typeof createEvents>;

interface Who {
  readonly requestId: string;
  readonly address: string;
  readonly actor: string;
  readonly target?: string;
}

export function createEvents(log: Logger, metrics: Metrics) {
  return {
    ...leafEvents(log, metrics),
    ...safekeepingEvents(log, metrics),
    ...requestEvents(log, metrics),
  };
}

function leafEvents(log: Logger, metrics: Metrics) {
  return {
    issued(leaf: NewCertificate): void {
      metrics.issued.inc({ profile: leaf.profile, kind: leaf.kind });
      log.info({ ...describeLeaf(leaf), kind: leaf.kind, notAfter: new Date(leaf.notAfter).toISOString() }, "issued");
    },
    promoted(leaf: PresentedLeaf): void {
      log.info(describeLeaf(leaf), "first used");
    },
    revoked(record: RevocationRecord): void {
      metrics.revoked.inc({ reason: record.reason });
      log.info({ serial: record.serial, issuer: record.issuerId, reason: record.reason }, "revoked");
    },
    crlPublished(crl: CrlRecord): void {
      log.info(
        { issuer: crl.issuerId, number: crl.number, nextUpdate: new Date(crl.nextUpdate).toISOString() },
        "CRL published",
      );
    },
    lineageConflict(leaf: PresentedLeaf, evidence: Readonly<Record<string, unknown>>, locked: boolean): void {
      metrics.lineageConflicts.inc();
      log.warn({ ...describeLeaf(leaf), evidence, locked }, "two holders of one lineage");
    },
    staleUse(leaf: PresentedLeaf, caller: Who): void {
      metrics.staleUses.inc();
      log.warn({ ...describeLeaf(leaf), address: caller.address }, "a superseded leaf is still in use");
    },
    reported(leaf: PresentedLeaf, report: AgentReport, clockSkewMs: number): void {
      const level = report.failure === undefined ? "debug" : "warn";
      log[level]({ identity: leaf.identity, failure: report.failure, clockSkewMs }, "reported");
    },
  };
}

/** The audit log, the journal, backups and what a restore left. */
function safekeepingEvents(log: Logger, metrics: Metrics) {
  return {
    /** The log is a target, too: it always has the whole line. */
    checkpointed(checkpoint: Checkpoint): void {
      metrics.auditCheckpoint.set({ target: "store" }, Date.parse(checkpoint.at) / 1000);
      log.info({ checkpoint: checkpointLine(checkpoint) }, "audit checkpoint");
    },
    checkpointDelivered(target: string, at: number): void {
      metrics.auditCheckpoint.set({ target }, at / 1000);
    },
    checkpointUndelivered(target: string, error: unknown, waiting: number): void {
      metrics.auditCheckpointFailures.inc({ target });
      log.warn(
        { err: error, target, waiting },
        "an audit checkpoint could not be written off this machine; it is tried again",
      );
    },
    auditChainBroken(seq: number, reason: string): void {
      metrics.auditChainOk.set(0);
      log.error(
        { seq, reason },
        "the audit log was altered; run `newleaf audit verify` and compare with the checkpoints kept elsewhere",
      );
    },
    journal: (event: JournalEvent): void => sayOfJournal(event, log, metrics),
    backedUp({ name, path, size, createdAt }: BackupSummary): void {
      log.info({ name, path, size, createdAt: new Date(createdAt).toISOString() }, "backup made");
    },
    /** When the newest backup in the configured place was made; before the first one, when the authority began. */
    backupStands(at: number): void {
      metrics.backupLastSuccess.set(at / 1000);
    },
    backupFailed(error: unknown): void {
      log.error({ err: error }, "the backup failed; earlier ones are untouched");
    },
    restored(restore: { readonly epoch: number; readonly at: number; readonly detail: object }): void {
      log.warn(
        { epoch: restore.epoch, at: new Date(restore.at).toISOString(), ...restore.detail },
        "this authority was restored from a backup; make sure that the service it replaces stays stopped",
      );
    },
  };
}

function requestEvents(log: Logger, metrics: Metrics) {
  return {
    /** An operator's act. */
    acted(action: string, caller: Who, detail: Readonly<Record<string, unknown>>): void {
      log.info(
        { ...detail, action, actor: caller.actor, address: caller.address, requestId: caller.requestId },
        "done",
      );
    },
    refused(code: ProblemCode, caller: Who, route: string, message: string): void {
      metrics.refused.inc({ code });
      const who = { actor: caller.actor, address: caller.address, target: caller.target, requestId: caller.requestId };
      log.info({ code, route, ...who, reason: message }, "refused");
    },
    /** Not looked at: for now, or because it was refused too often. */
    turnedAway(reason: TurnedAwayReason, caller: Who, route: string, retryAfterSeconds: number): void {
      metrics.turnedAway.inc({ reason });
      metrics.refused.inc({ code: "rate-limited" });
      const { actor, address, requestId } = caller;
      log.debug({ reason, route, actor, address, requestId, retryAfterSeconds }, "turned away");
    },
    paused(pause: PauseRow): void {
      const { identity, serial, key, code, reason, refusals, address } = pause;
      log.warn({ identity, serial, key, code, reason, refusals, address }, "a client is paused");
    },
    handshakeFailed(listener: string, reason: HandshakeFailure, address: string, detail: string): void {
      metrics.handshakeFailures.inc({ listener, reason });
      log.info({ listener, reason, address, detail }, "connection turned away");
    },
    faulted(error: unknown, where: string, requestId?: string): void {
      log.error({ err: error, where, requestId }, "fault");
    },
    unvouched(leaf: { readonly serial: string; readonly identity: string; readonly address: string }): void {
      const { serial, identity, address } = leaf;
      log.warn(
        { serial, identity, address },
        "a leaf with our issuer's signature that is not in the store was refused",
      );
    },
    committed(seconds: number): void {
      metrics.storeCommit.observe(seconds);
    },
    answered(listener: string, route: string, status: number, seconds: number): void {
      metrics.requestDuration.observe({ listener, route, status: String(status) }, seconds);
    },
  };
}

function sayOfJournal(event: JournalEvent, log: Logger, metrics: Metrics): void {
  switch (event.kind) {
    case "based":
      return log.warn(
        { line: event.line, reason: event.reason },
        "the journal begins here; make a backup now: a restore of an older one lacks what came before",
      );
    case "redone":
      return log.warn({ line: event.line }, "what a crash kept from the database was carried out from the journal");
    case "trimmed":
      return log.warn(
        { file: event.segment, bytes: event.bytes },
        "a line that a crash cut off was removed from the journal",
      );
    case "exposed":
      return log.warn({ directory: event.directory }, "others than the owner can read the journal: chmod 700");
    case "failing":
      metrics.journalFailing.set(1);
      return log.error({ reason: event.failure }, "the journal cannot be written; every write is refused");
    case "recovered":
      metrics.journalFailing.set(0);
      return log.info("the journal can be written again");
  }
}

function describeLeaf(leaf: NewCertificate | PresentedLeaf): Record<string, unknown> {
  return {
    identity: leaf.identity,
    serial: leaf.serial,
    profile: leaf.profile,
    lineage: leaf.lineage,
    generation: leaf.generation,
    fingerprint: leaf.fingerprint,
  };
}
