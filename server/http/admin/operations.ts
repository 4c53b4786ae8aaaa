/** Every operation of the admin API. Nothing else is mounted on the admin listener. */
import { approvalOperations } from "./approvals.ts";
import { auditOperations } from "./audit.ts";
import { backupOperations } from "./backups.ts";
import { certificateOperations } from "./certificates.ts";
import { identityOperations } from "./identities.ts";
import { inventoryOperations } from "./inventory.ts";
import { issuerOperations } from "./issuers.ts";
import { lineageOperations } from "./lineages.ts";
import type { Operation } from "./operation.ts";
import { openApiOperation } from "./openapi.ts";
import { operatorOperations } from "./operators.ts";
import { revocationOperations } from "./revocations.ts";
import { pauseOperations } from "./pauses.ts";
import { statusOperations } from "./status.ts";
import { tokenOperations } from "./tokens.ts";
import { unvouchedOperations } from "./unvouched.ts";

export const operations: readonly Operation[] = [
  ...identityOperations,
  ...inventoryOperations,
  ...tokenOperations,
  ...approvalOperations,
  ...operatorOperations,
  ...certificateOperations,
  ...unvouchedOperations,
  ...revocationOperations,
  ...lineageOperations,
  ...pauseOperations,
  ...issuerOperations,
  ...auditOperations,
  ...backupOperations,
  ...statusOperations,
  openApiOperation(() => operations),
];
