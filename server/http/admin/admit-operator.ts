import { AppError } from "@newleaf/shared/problems";
import type { Request } from "express";
import type { Authority } from "../../authority/authority.ts";
import { admit } from "../../authority/gate.ts";
import { requireRole } from "../../authority/permissions.ts";
import type { PresentedLeaf } from "../../store/certificates.ts";
import { contextOf } from "../context.ts";
import { peerOf } from "../peer.ts";

/**
 * Roles live in the store, not in the certificate: a lifted role is gone at the next request.
 * @throws AppError not-permitted
 */
export async function admitOperator(
  authority: Authority,
  request: Request,
  leaf: Pick<PresentedLeaf, "profile" | "identity">,
): Promise<void> {
  const { caller } = contextOf(request);
  const identity = leaf.profile === "operator" ? await authority.store.findIdentity(leaf.identity) : null;
  if (identity?.profile !== "operator" || identity.role === null) {
    throw new AppError("not-permitted", "This listener is for operators; the certificate belongs to another profile");
  }
  caller.role = identity.role;
  requireRole(caller, "viewer");
}

/**
 * A body may take its time: whoever has lost certificate or role while it came acts no more, however many requests he had begun.
 * @throws AppError not-permitted, and the gate's codes
 */
export async function admitOperatorAgain(authority: Authority, request: Request): Promise<void> {
  const leaf = await admit(authority, contextOf(request).caller, peerOf(request), { toRenew: false });
  await admitOperator(authority, request, leaf);
}
