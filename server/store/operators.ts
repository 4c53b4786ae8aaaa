import type { AuditEntry } from "./audit.ts";
import type { TokenRow } from "./enrollments.ts";
import type { IdentityEntry, Role } from "./identities.ts";

export interface OperatorStore {
  /**
   * An identity of profile operator with its role, and the token that brings its first certificate, in one transaction.
   * Throws AppError `conflict` when the id is in the inventory.
   */
  addOperator(
    operator: {
      readonly entry: IdentityEntry;
      readonly role: Role;
      readonly token: (TokenRow & { readonly secretHash: string }) | null;
    },
    at: number,
    audit: readonly AuditEntry[],
  ): Promise<void>;
  /**
   * Throws StaleBasis (revision moved), AppError `not-permitted` when no admin who could act were left. The same holds for
   * `setIdentityState` and for removals by `changeInventory`.
   */
  setRole(
    change: { readonly id: string; readonly role: Role; readonly basisRevision: number },
    at: number,
    audit: readonly AuditEntry[],
  ): Promise<void>;
  /** Another active admin who holds a certificate that can be used now. */
  hasOtherActingAdmin(id: string, now: number): Promise<boolean>;
}
