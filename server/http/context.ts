/** What each request carries through the routers: who calls, and which listener. */
import { randomUUID } from "node:crypto";
import type { NextFunction, Request, RequestHandler, Response } from "express";
import type { Authority, Caller } from "../authority/authority.ts";
import type { PresentedLeaf } from "../store/certificates.ts";

export type ListenerName = "agents" | "enrollment" | "admin" | "public" | "ops";

interface RequestContext {
  readonly caller: Caller;
  readonly listener: ListenerName;
  /** Set by the gate. */
  leaf?: PresentedLeaf;
}

const contexts = new WeakMap<Request, RequestContext>();

export function contextOf(request: Request): RequestContext {
  const context = contexts.get(request);
  if (context === undefined) throw new Error("a route was mounted before beginRequest");
  return context;
}

/** The leaf that passed the gate. */
export function leafOf(request: Request): PresentedLeaf {
  const { leaf } = contextOf(request);
  if (leaf === undefined) throw new Error("a route that needs a leaf was mounted before the gate");
  return leaf;
}

/** First of every listener: names the request and measures it. */
export function beginRequest(authority: Authority, listener: ListenerName): RequestHandler {
  return (request: Request, response: Response, next: NextFunction) => {
    const begun = performance.now();
    const caller: Caller = {
      requestId: randomUUID(),
      address: request.socket.remoteAddress ?? "unknown",
      actorKind: "stranger",
      actor: "stranger",
    };
    contexts.set(request, { caller, listener });
    response.setHeader("X-Request-Id", caller.requestId);
    response.setHeader("X-Content-Type-Options", "nosniff");
    response.once("close", () => {
      authority.events.answered(listener, routeOf(request), response.statusCode, (performance.now() - begun) / 1000);
    });
    next();
  };
}

/** The route's pattern, never the path itself: a metric must not grow with what strangers type. */
export function routeOf(request: Request): string {
  const pattern: unknown = (request.route as { path?: unknown } | undefined)?.path;
  return typeof pattern === "string" ? `${request.baseUrl}${pattern}` : "none";
}
