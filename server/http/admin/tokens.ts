import { Router } from "express";
import type { Authority } from "../../authority/authority.ts";
import { isoTime } from "../../authority/issue.ts";
import { createToken, revokeToken } from "../../authority/tokens.ts";
import type { TokenRow } from "../../store/enrollments.ts";
import { sendJson } from "../answers.ts";
import { jsonBody, parseBody, parseQuery } from "../body.ts";
import { contextOf } from "../context.ts";
import { needs } from "./needs.ts";
import { tokenQuery, tokenSchema } from "./schemas.ts";

export function tokenRoutes(authority: Authority): Router {
  const routes = Router();

  routes.get("/tokens", async (request, response) => {
    const page = await authority.store.listTokens(parseQuery(tokenQuery, request));
    const now = authority.clock.now();
    sendJson(response, 200, { items: page.items.map((row) => describeToken(row, now)), nextCursor: page.nextCursor });
  });

  routes.post("/tokens", needs("operator"), ...jsonBody(), async (request, response) => {
    const { identity, ttl } = parseBody(tokenSchema, request);
    const created = await createToken(authority, contextOf(request).caller, identity, ttl);
    sendJson(response, 201, { ...created, expiresAt: isoTime(created.expiresAt) });
  });

  routes.delete("/tokens/:id", needs("operator"), async (request, response) => {
    await revokeToken(authority, contextOf(request).caller, (request.params as { id: string }).id);
    response.status(204).end();
  });

  return routes;
}

function describeToken(row: TokenRow, now: number): Record<string, unknown> {
  return {
    id: row.id,
    identity: row.identity,
    state: stateOf(row, now),
    createdBy: row.createdBy,
    createdAt: isoTime(row.createdAt),
    expiresAt: isoTime(row.expiresAt),
    spentAt: row.spentAt === null ? null : isoTime(row.spentAt),
    spentOn: row.spentOn,
  };
}

function stateOf(row: TokenRow, now: number): string {
  if (row.spentAt !== null) return "spent";
  if (row.revokedAt !== null) return "revoked";
  return row.expiresAt <= now ? "expired" : "open";
}
