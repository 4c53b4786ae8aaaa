/** The gate at the HTTP edge: one problem and a closed connection for whoever fails it, counted once for each connection. */
import type { ErrorRequestHandler, Request, RequestHandler } from "express";
import { AppError, type ProblemCode } from "@newleaf/shared/problems";
import type { Authority } from "../authority/authority.ts";
import { admit } from "../authority/gate.ts";
import { recordUse } from "../authority/report.ts";
import type { HandshakeFailure } from "../events.ts";
import { contextOf } from "./context.ts";
import { peerOf } from "./peer.ts";

const failureReasons: Partial<Record<ProblemCode, HandshakeFailure>> = {
  "client-certificate-required": "no-certificate",
  "certificate-not-trusted": "unknown-ca",
  "certificate-unknown": "unknown-ca",
  "certificate-revoked": "revoked",
  "certificate-expired": "expired",
  "certificate-superseded": "other",
  "identity-suspended": "other",
};

const counted = new WeakSet<object>();

/** Admits or throws. On the renewal route a superseded leaf passes: the use case judges it by the request's key. */
export function gate(authority: Authority, { renewalPath }: { renewalPath?: string } = {}): RequestHandler {
  return async (request, _response, next) => {
    const context = contextOf(request);
    const toRenew = request.method === "POST" && request.path === renewalPath;
    const leaf = await admit(authority, context.caller, peerOf(request), { toRenew });
    context.leaf = leaf;
    if (context.listener === "agents" && leaf.profile !== "operator") {
      const noted = recordUse(authority, leaf, context.caller.address);
      // A renewal does not wait for it: both go into one commit, and the issuance says where it was asked from.
      if (!toRenew) await noted;
    }
    next();
  };
}

/** Before the problem handler of a gated listener. */
export function closeRefused(authority: Authority): ErrorRequestHandler {
  return (error: unknown, request, response, next) => {
    if (error instanceof AppError && isGateRefusal(request, error)) {
      response.setHeader("Connection", "close");
      if (!counted.has(request.socket)) {
        counted.add(request.socket);
        const { listener, caller } = contextOf(request);
        authority.events.handshakeFailed(listener, failureReasons[error.code] ?? "other", caller.address, error.code);
      }
    }
    next(error);
  };
}

function isGateRefusal(request: Request, error: AppError): boolean {
  return contextOf(request).leaf === undefined || Object.hasOwn(failureReasons, error.code);
}
