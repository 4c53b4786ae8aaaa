import { Router } from "express";
import type { Authority } from "../../authority/authority.ts";
import { applyInventory, planInventory } from "../../authority/inventory.ts";
import { sendJson } from "../answers.ts";
import { jsonBody, parseBody } from "../body.ts";
import { contextOf } from "../context.ts";
import { needs } from "./needs.ts";
import { inventorySchema } from "./schemas.ts";

export function inventoryRoutes(authority: Authority): Router {
  const routes = Router();

  routes.post("/inventory/plan", needs("viewer"), ...jsonBody({ large: true }), async (request, response) => {
    sendJson(response, 200, await planInventory(authority, parseBody(inventorySchema, request)));
  });

  routes.post("/inventory/apply", needs("operator"), ...jsonBody({ large: true }), async (request, response) => {
    sendJson(
      response,
      200,
      await applyInventory(authority, contextOf(request).caller, parseBody(inventorySchema, request)),
    );
  });

  return routes;
}
