import type { JournalAppender } from "../journal/appender.ts";
import type { Store } from "../store.ts";
import { type AuditChain, auditChain, auditWrites } from "./audit.ts";
import { journalWrites } from "./journal/batch.ts";
import { certificateWrites } from "./certificates.ts";
import { type Connection, prepare } from "./database.ts";
import { enrollmentWrites } from "./enrollments.ts";
import { idempotencyWrites } from "./idempotency.ts";
import { identityWrites } from "./identities.ts";
import { issuerWrites } from "./issuers.ts";
import { lineageWrites } from "./lineages.ts";
import { operatorWrites } from "./operators.ts";
import { pauseWrites } from "./pauses.ts";
import { reportWrites } from "./reports.ts";
import { restoreWrites } from "./restores.ts";
import { retentionWrites } from "./retention.ts";
import { revocationWrites } from "./revocations.ts";
import { unvouchedWrites } from "./unvouched.ts";

/** The methods of the store that write. Each is one command to the writer thread; everything else reads. */
export const writeNames = [
  "abandonIdempotent",
  "adoptUnvouched",
  "addOperator",
  "approveRequest",
  "beginIdempotent",
  "changeInventory",
  "createGrant",
  "createToken",
  "cutJournal",
  "denyRequest",
  "dropIdempotent",
  "endRetention",
  "finishIdempotent",
  "forgetExpired",
  "found",
  "importCrl",
  "liftPauses",
  "lockLineage",
  "noteUnvouched",
  "openRequest",
  "ping",
  "promote",
  "rearmKeys",
  "recordAudit",
  "recordCheckpoint",
  "recordCrl",
  "recordIssuance",
  "recordPause",
  "recordReport",
  "recordRestore",
  "recordSeen",
  "releaseHold",
  "releaseLineage",
  "revoke",
  "revokeIssuer",
  "revokeToken",
  "revokeUnvouched",
  "setIdentityState",
  "setRole",
] as const satisfies readonly (keyof Store)[];

export type WriteName = (typeof writeNames)[number];

/** The store's write methods as they run in the writer: inside its transaction, at once, throwing to undo themselves. */
export type Writes = {
  readonly [Name in WriteName]: Store[Name] extends (...given: infer Arguments) => Promise<infer Result>
    ? (...given: Arguments) => Result
    : never;
};

export interface WriteContext {
  readonly database: Connection;
  readonly audit: AuditChain;
  /** Null: the service keeps none, or this is a replay. */
  readonly journal: JournalAppender | null;
}

/** One command on its way to the writer. */
export type Command = { readonly [Name in WriteName]: readonly [Name, Parameters<Writes[Name]>] }[WriteName];

export function writeContext(database: Connection, journal: JournalAppender | null = null): WriteContext {
  return { database, audit: auditChain(database), journal };
}

export function storeWrites(context: WriteContext): Writes {
  const { cutJournal, probe } = journalWrites(context);
  const beat = prepare(context.database, "UPDATE heartbeat SET beats = beats + 1");
  const certificates = certificateWrites(context);
  const revocations = revocationWrites(context);
  return {
    ...auditWrites(context),
    ...certificates,
    ...enrollmentWrites(context),
    ...idempotencyWrites(context),
    ...identityWrites(context),
    ...issuerWrites(context),
    ...lineageWrites(context),
    ...operatorWrites(context),
    ...pauseWrites(context),
    ...reportWrites(context),
    ...restoreWrites(context),
    ...retentionWrites(context),
    ...revocations,
    ...unvouchedWrites(context, { ...certificates, ...revocations }),
    cutJournal,
    ping() {
      probe();
      beat.run();
    },
  };
}
