/**
 * What the service remembers, by purpose. One adapter per database; `test/unit/server/store` runs one contract suite over all.
 *
 * Every write is one transaction and resolves only after it is durable (fsync); writes that arrive while a commit runs
 * share the next one. A write that finds its basis moved throws `StaleBasis` and has changed nothing: decide again.
 * Times are milliseconds since the epoch; serials, ids and fingerprints are text as in `@newleaf/shared`; DER is bytes.
 */
import type { AuditStore } from "./audit.ts";
import type { CertificateStore } from "./certificates.ts";
import type { EnrollmentStore } from "./enrollments.ts";
import type { IdempotencyStore } from "./idempotency.ts";
import type { IdentityStore } from "./identities.ts";
import type { IssuerStore } from "./issuers.ts";
import type { JournalStore } from "./journal.ts";
import type { LineageStore } from "./lineages.ts";
import type { OperatorStore } from "./operators.ts";
import type { PauseStore } from "./pauses.ts";
import type { ReportStore } from "./reports.ts";
import type { RestoreStore } from "./restores.ts";
import type { RetentionStore } from "./retention.ts";
import type { RevocationStore } from "./revocations.ts";
import type { StandingStore } from "./standings.ts";

export interface Store
  extends
    AuditStore,
    CertificateStore,
    EnrollmentStore,
    IdempotencyStore,
    IdentityStore,
    IssuerStore,
    JournalStore,
    LineageStore,
    OperatorStore,
    PauseStore,
    ReportStore,
    RestoreStore,
    RetentionStore,
    RevocationStore,
    StandingStore,
    AsyncDisposable {
  /** Commits an empty write, and tries the journal: proves that the store can. Rejects when it cannot. */
  ping(): Promise<void>;
}

/** Something the decision relied on changed before the commit. Nothing was written. */
export class StaleBasis extends Error {
  override readonly name = "StaleBasis";
}

/** A page of a list; `nextCursor` is null on the last one. Cursors stay right while rows change (they name a position, not an offset). */
export interface Page<T> {
  readonly items: readonly T[];
  readonly nextCursor: string | null;
}

export interface PageRequest {
  /** 1 to 1,000. */
  readonly limit: number;
  readonly cursor?: string;
}
