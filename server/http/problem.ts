/** The only place that turns a refusal into HTTP: RFC 9457 bodies, audit and count of the refusal, and nothing of a fault's inside. */
import type { ErrorRequestHandler, Request, RequestHandler, Response } from "express";
import { mediaTypes } from "@newleaf/shared/api";
import { isFingerprint } from "@newleaf/shared/fingerprint";
import { AppError, problemDocument, problems } from "@newleaf/shared/problems";
import { auditEntry, type Authority } from "../authority/authority.ts";
import { TurnedAway } from "../authority/herd/admission.ts";
import { countRefusal } from "../authority/herd/herd.ts";
import { networkOf } from "@newleaf/shared/network";
import { contextOf, routeOf } from "./context.ts";

/** After every route: nothing matched. */
export const noRoute: RequestHandler = () => {
  throw new AppError("not-found", "There is no such route on this listener");
};

export function problemHandler(authority: Authority): ErrorRequestHandler {
  return async (error: unknown, request, response, next) => {
    const refusal = toRefusal(error);
    const { requestId } = contextOf(request).caller;
    if (refusal === null) authority.events.faulted(error, `${request.method} ${routeOf(request)}`, requestId);
    if (response.headersSent) return next(error);
    // Without the id, which is another each time, a fault that repeats is noted once.
    await noteRefusal(authority, request, refusal ?? new AppError("internal"));
    // Whoever has to wait does so without a connection.
    if (refusal instanceof TurnedAway) response.setHeader("Connection", "close");
    const fault = `Something failed inside the service; its log says what, under requestId ${requestId}`;
    sendProblem(response, refusal ?? new AppError("internal", fault));
  };
}

export function sendProblem(response: Response, error: AppError): void {
  const { retryAfterSeconds } = error;
  if (retryAfterSeconds !== undefined) response.setHeader("Retry-After", String(Math.ceil(retryAfterSeconds)));
  response.status(problems[error.code].status);
  response.setHeader("Content-Type", mediaTypes.problem);
  response.setHeader("Cache-Control", "no-store");
  response.end(JSON.stringify(problemDocument(error)));
}

/**
 * Refused acts and leaves, and reads that somebody was not entitled to, are audited: the first time within an hour, then only counted.
 * A read of what is not there is only counted.
 */
async function noteRefusal(authority: Authority, request: Request, error: AppError): Promise<void> {
  const { caller, listener } = contextOf(request);
  const route = `${listener} ${request.method} ${routeOf(request)}`;
  if (error instanceof TurnedAway)
    return authority.events.turnedAway(error.reason, caller, route, error.retryAfterSeconds ?? 0);
  if (caller.actorKind === "stranger") countRefusal(authority.herd, caller);
  authority.events.refused(error.code, caller, route, error.message);
  const isAct = request.method !== "GET" && request.method !== "HEAD";
  const isGateRefusal = contextOf(request).leaf === undefined && (listener === "agents" || listener === "admin");
  const isDenial = problems[error.code].status === 401 || problems[error.code].status === 403;
  if (!isAct && !isGateRefusal && !isDenial) return;
  const known = caller.actorKind !== "stranger";
  // A stranger makes as many keys as he likes: a new one is no new sight.
  const target = known || !isFingerprint(caller.target ?? "") ? caller.target : undefined;
  const from = networkOf(caller.address);
  const sight = [error.code, route, caller.actor, known ? error.message : "", from, target ?? ""].join(" ");
  if (!authority.sightings.isFirst(sight, caller)) return;
  const entry = auditEntry(caller, authority.clock.now(), "request.refused", caller.target ?? route, {
    code: error.code,
    route,
    reason: error.message,
    ...(caller.actorKind === "agent" ? { identity: caller.actor } : {}),
  });
  try {
    await authority.store.recordAudit([entry]);
  } catch (fault) {
    authority.events.faulted(fault, "audit of a refusal", caller.requestId);
  }
}

/** Errors of the framework's parsers are the caller's; everything unknown is a fault. */
function toRefusal(error: unknown): AppError | null {
  if (error instanceof AppError) return error;
  if (typeof error !== "object" || error === null) return null;
  const { status, type } = error as { status?: unknown; type?: unknown };
  if (status === 413) return new AppError("request-too-large", "The body is larger than this route accepts");
  if (status === 415)
    return new AppError("media-type-unsupported", typeof type === "string" ? `Unsupported: ${type}` : undefined);
  if (typeof status === "number" && status >= 400 && status < 500) {
    return new AppError(
      "request-invalid",
      type === "entity.parse.failed" ? "The body is not JSON" : "The request cannot be read",
    );
  }
  return null;
}
