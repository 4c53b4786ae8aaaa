import { Router } from "express";
import type { Authority } from "../../authority/authority.ts";
import { readStatus } from "../../authority/status.ts";
import { sendJson } from "../answers.ts";

export function statusRoutes(authority: Authority): Router {
  const routes = Router();
  routes.get("/status", async (_request, response) => sendJson(response, 200, await readStatus(authority)));
  return routes;
}
