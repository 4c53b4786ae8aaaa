import { Router } from "express";
import type { Authority } from "../../authority/authority.ts";
import { isoTime } from "../../authority/issue.ts";
import type { AuditRow } from "../../store/audit.ts";
import { sendJson } from "../answers.ts";
import { parseQuery } from "../body.ts";
import { auditQuery, chainQuery, readMoment } from "./schemas.ts";

export function auditRoutes(authority: Authority): Router {
  const routes = Router();

  routes.get("/audit", async (request, response) => {
    const { after, before, ...filter } = parseQuery(auditQuery, request);
    const now = authority.clock.now();
    const page = await authority.store.listAudit({
      ...filter,
      ...(after === undefined ? {} : { after: readMoment(after, now) }),
      ...(before === undefined ? {} : { before: readMoment(before, now) }),
    });
    sendJson(response, 200, {
      items: page.items.map((row) => ({ ...row, at: isoTime(row.at) })),
      nextCursor: page.nextCursor,
    });
  });

  /** The rows as they are hashed, oldest first: for verification and export. */
  routes.get("/audit/chain", async (request, response) => {
    const { after, limit } = parseQuery(chainQuery, request);
    const rows: readonly AuditRow[] = await authority.store.readAuditChain(after, limit);
    sendJson(response, 200, { rows });
  });

  return routes;
}
