import { z } from "zod";
import { applyInventory } from "../../authority/inventory/inventory.ts";
import { planInventory } from "../../authority/inventory/plan.ts";
import { count, identityId } from "./answer-schemas.ts";
import { operation } from "./operation.ts";
import { inventorySchema } from "./schemas.ts";

const planAnswer = z
  .strictObject({
    changes: z.array(
      z.strictObject({
        kind: z.enum(["add", "change", "remove", "unchanged"]),
        id: identityId,
        differences: z.array(
          z.strictObject({
            field: z.enum(["profile", "dns", "ip", "uri", "email", "keys", "labels", "owner", "notes"]),
            from: z.unknown(),
            to: z.unknown(),
          }),
        ),
        liveLeaves: count.describe("usable leaves that a removal would revoke"),
      }),
    ),
    warnings: z.array(z.string()),
  })
  .meta({ id: "InventoryPlan" });

export const inventoryOperations = [
  operation({
    id: "planInventory",
    method: "post",
    path: "/v1/inventory/plan",
    act: "inventory.plan",
    summary: "What applying this inventory would change; changes nothing",
    body: inventorySchema,
    large: true,
    answers: { 200: planAnswer },
    problems: ["key-in-use", "key-blocked"],
    async handle(authority, { body }) {
      return { status: 200, body: await planInventory(authority, body) };
    },
  }),
  operation({
    id: "applyInventory",
    method: "post",
    path: "/v1/inventory/apply",
    act: "inventory.apply",
    summary: "Makes the inventory so, all of it or nothing",
    body: inventorySchema,
    large: true,
    answers: { 200: planAnswer },
    problems: ["conflict", "key-in-use", "key-blocked"],
    async handle(authority, { caller, body }) {
      return { status: 200, body: await applyInventory(authority, caller, body) };
    },
  }),
];
