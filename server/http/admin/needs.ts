import type { RequestHandler } from "express";
import { requireRole } from "../../authority/permissions.ts";
import type { Role } from "../../store/identities.ts";
import { contextOf } from "../context.ts";

/** Mounted before a route's handler: whoever has a lesser role gets `not-permitted`. */
export function needs(role: Role): RequestHandler {
  return (request, _response, next) => {
    requireRole(contextOf(request).caller, role);
    next();
  };
}
