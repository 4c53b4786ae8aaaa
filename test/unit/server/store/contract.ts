/** What every adapter of the store must do, whatever database is below. */
import { auditSearchContract } from "./contract/audit-search.ts";
import { auditedActsContract } from "./contract/audited-acts.ts";
import { enrollmentContract } from "./contract/enrollments.ts";
import { idempotencyContract } from "./contract/idempotency.ts";
import { inventoryContract } from "./contract/inventory.ts";
import { issuanceContract } from "./contract/issuance.ts";
import { issuerRevocationContract } from "./contract/issuer-revocation.ts";
import { lineageContract } from "./contract/lineages.ts";
import { listContract } from "./contract/lists.ts";
import { operatorContract } from "./contract/operators.ts";
import { pauseContract } from "./contract/pauses.ts";
import { recordContract } from "./contract/records.ts";
import { restoreContract } from "./contract/restores.ts";
import { retentionContract } from "./contract/retention.ts";
import { revocationContract } from "./contract/revocations.ts";
import { searchContract } from "./contract/search.ts";
import { standingContract } from "./contract/standings.ts";
import type { OpenStore } from "./contract/suite.ts";

export function storeContract(open: OpenStore): void {
  servingContract(open);
  restoreContract(open);
}

/** Without what is done to a copy while no service runs, and no journal is kept. */
export function servingContract(open: OpenStore): void {
  idempotencyContract(open);
  issuanceContract(open);
  lineageContract(open);
  inventoryContract(open);
  enrollmentContract(open);
  revocationContract(open);
  issuerRevocationContract(open);
  listContract(open);
  operatorContract(open);
  pauseContract(open);
  recordContract(open);
  auditSearchContract(open);
  retentionContract(open);
  auditedActsContract(open);
  searchContract(open);
  standingContract(open);
}
