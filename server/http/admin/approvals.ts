import { Router } from "express";
import { AppError } from "@newleaf/shared/problems";
import { decideRequest } from "../../authority/approvals.ts";
import type { Authority } from "../../authority/authority.ts";
import { isoTime } from "../../authority/issue.ts";
import type { RequestRow } from "../../store/enrollments.ts";
import { sendJson } from "../answers.ts";
import { jsonBody, parseBody, parseQuery } from "../body.ts";
import { contextOf } from "../context.ts";
import { needs } from "./needs.ts";
import { approvalQuery, decisionSchema } from "./schemas.ts";

export function approvalRoutes(authority: Authority): Router {
  const routes = Router();

  routes.get("/approvals", async (request, response) => {
    const page = await authority.store.listRequests({
      ...parseQuery(approvalQuery, request),
      now: authority.clock.now(),
    });
    sendJson(response, 200, { items: page.items.map(describeRequest), nextCursor: page.nextCursor });
  });

  routes.get("/approvals/:id", async (request, response) => {
    const row = await authority.store.findRequest(request.params.id, authority.clock.now());
    if (row === null)
      throw new AppError(
        "not-found",
        `There is no enrollment request ${request.params.id.slice(0, 40)}; requests live for a day`,
      );
    sendJson(response, 200, describeRequest(row));
  });

  routes.post("/approvals/:id/decision", needs("approver"), ...jsonBody(), async (request, response) => {
    const { id } = request.params as { id: string };
    const { request: decided } = await decideRequest(
      authority,
      contextOf(request).caller,
      id,
      parseBody(decisionSchema, request),
    );
    sendJson(response, 200, describeRequest(decided));
  });

  return routes;
}

function describeRequest(row: RequestRow): Record<string, unknown> {
  return {
    id: row.id,
    state: row.state,
    fingerprint: row.key,
    names: row.askedNames,
    claim: row.claim,
    address: row.address,
    createdAt: isoTime(row.createdAt),
    expiresAt: isoTime(row.expiresAt),
    identity: row.identity,
    serial: row.serial,
    decidedBy: row.decidedBy,
    decidedAt: row.decidedAt === null ? null : isoTime(row.decidedAt),
  };
}
