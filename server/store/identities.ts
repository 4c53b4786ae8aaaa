import type { Names } from "@newleaf/shared/names";
import type { AuditEntry } from "./audit.ts";
import type { Page, PageRequest } from "./store.ts";

export type { Names };

/** `service` is the service's own certificates; no identity of the inventory may have it. */
export type Profile = "agent" | "gateway" | "operator" | "service";
export type IdentityState = "active" | "suspended" | "removed";
export type Role = "viewer" | "approver" | "operator" | "admin";

/** The inventory's side of an identity: what inventory.yml says. */
export interface IdentityEntry {
  readonly id: string;
  readonly profile: Profile;
  readonly names: Names;
  /** Approved SPKI fingerprints. */
  readonly keys: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  /** Who answers for it: a person, a team, an address. Absent: nobody is named. */
  readonly owner?: string;
  readonly notes?: string;
}

export interface IdentityRow extends IdentityEntry {
  readonly state: IdentityState;
  /** Rises with every change; decisions name the one they saw. */
  readonly revision: number;
  readonly createdAt: number;
  readonly updatedAt: number;
  readonly lastSeenAt: number | null;
  /** Only for profile operator. */
  readonly role: Role | null;
}

/** A key known to the service. */
export interface KeyRow {
  readonly fingerprint: string;
  readonly identity: string;
  /** In the inventory's list. */
  readonly approved: boolean;
  /** Approved and not yet spent by an enrollment. */
  readonly armed: boolean;
  /** A leaf was issued for it. */
  readonly issued: boolean;
  readonly blockedAt: number | null;
  /** The operator who put it on the list or armed it again; null when none did. */
  readonly approvedBy: string | null;
}

export interface IdentityFilter extends PageRequest {
  readonly state?: IdentityState;
  readonly profile?: Profile;
  /** `key=value` or `key`. */
  readonly label?: string;
  readonly expiresBefore?: number;
  /**
   * Part of the id, a name, a label (`key=value`) or the owner, in any case; or the beginning of a serial or of a fingerprint of a key or
   * certificate, at least four hexadecimal digits, as any tool prints them.
   */
  readonly q?: string;
  /** `id` unless said; by `notAfter`, the most urgent first, where `expiresBefore` filters. */
  readonly sort?: IdentitySort;
  readonly now: number;
}

/** `-` is descending. By `notAfter` (of the leaf in force) and `lastSeen`, those without one come last, by id. */
export const identitySorts = ["id", "-id", "notAfter", "-notAfter", "lastSeen", "-lastSeen"] as const;
export type IdentitySort = (typeof identitySorts)[number];

/** One step of an applied inventory. */
export type InventoryChange =
  | { readonly kind: "add"; readonly entry: IdentityEntry; readonly role?: Role }
  | { readonly kind: "change"; readonly entry: IdentityEntry; readonly basisRevision: number }
  | { readonly kind: "remove"; readonly id: string; readonly basisRevision: number };

export interface IdentityStore {
  findIdentity(id: string): Promise<IdentityRow | null>;
  /** Service identity excluded unless asked for by profile. Removed ones excluded unless asked for by state. */
  listIdentities(filter: IdentityFilter): Promise<Page<IdentityRow>>;
  findKey(fingerprint: string): Promise<KeyRow | null>;
  listKeys(identity: string): Promise<readonly KeyRow[]>;
  /**
   * All changes or none. New approved keys arm, approved by the operator whom the audit entries name; keys already known are not re-armed; keys dropped from the list are no longer approved.
   * A removed identity can be added again under the same id (revision goes on rising).
   * Throws StaleBasis (revision moved), AppError `conflict` (id exists), `key-in-use`, `key-blocked`.
   */
  changeInventory(changes: readonly InventoryChange[], at: number, audit: readonly AuditEntry[]): Promise<void>;
  /** active ↔ suspended. Throws AppError `identity-unknown`; setting the state it has is not an error. */
  setIdentityState(id: string, state: "active" | "suspended", at: number, audit: readonly AuditEntry[]): Promise<void>;
  /** Arms every approved, unblocked key of the identity again, approved by the operator whom the audit entries name. */
  rearmKeys(id: string, at: number, audit: readonly AuditEntry[]): Promise<void>;
  /** Other active identities that hold one of these names. */
  findNameSharers(id: string, names: Names): Promise<readonly { readonly identity: string; readonly name: string }[]>;
}
