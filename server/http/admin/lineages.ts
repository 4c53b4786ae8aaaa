import { Router } from "express";
import { AppError } from "@newleaf/shared/problems";
import type { Authority } from "../../authority/authority.ts";
import { isoTime } from "../../authority/issue.ts";
import { releaseLineage } from "../../authority/lineage.ts";
import type { LineageRow } from "../../store/lineages.ts";
import { sendJson } from "../answers.ts";
import { parseQuery } from "../body.ts";
import { contextOf } from "../context.ts";
import { describeCertificate } from "./certificates.ts";
import { needs } from "./needs.ts";
import { lineageQuery } from "./schemas.ts";

export function lineageRoutes(authority: Authority): Router {
  const routes = Router();

  routes.get("/lineages", async (request, response) => {
    const page = await authority.store.listLineages(parseQuery(lineageQuery, request));
    sendJson(response, 200, { items: page.items.map(describeLineage), nextCursor: page.nextCursor });
  });

  routes.get("/lineages/:id", async (request, response) => {
    const { id } = request.params;
    const row = await authority.store.findLineage(id);
    if (row === null) throw new AppError("not-found", `There is no lineage ${id.slice(0, 40)}`);
    const now = authority.clock.now();
    const certificates = await authority.store.listLineageCertificates(id);
    sendJson(response, 200, {
      ...describeLineage(row),
      certificates: certificates.map((leaf) => describeCertificate(leaf, now)),
    });
  });

  routes.post("/lineages/:id/release", needs("operator"), async (request, response) => {
    const row = await releaseLineage(authority, contextOf(request).caller, (request.params as { id: string }).id);
    sendJson(response, 200, describeLineage(row));
  });

  return routes;
}

function describeLineage(row: LineageRow): Record<string, unknown> {
  return {
    id: row.id,
    identity: row.identity,
    state: row.state,
    generation: row.newestGeneration,
    createdAt: isoTime(row.createdAt),
    lockedAt: row.lockedAt === null ? null : isoTime(row.lockedAt),
    evidence: row.evidence,
  };
}
