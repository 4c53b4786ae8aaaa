/** Pieces that the answers of the admin API are made of. They describe; nothing is checked against them on the way out. */
import { z } from "zod";

/** ISO 8601 in UTC. */
export const time = z.iso.datetime().describe("ISO 8601 in UTC");
export const identityId = z.string().describe("id of an identity of the inventory");
export const serial = z.string().regex(/^[0-9a-f]+$/);
export const fingerprint = z.string().regex(/^sha256:[0-9a-f]{64}$/);

export function nullable<T extends z.ZodType>(schema: T): z.ZodNullable<T> {
  return z.nullable(schema);
}

/** A page; `nextCursor` is null on the last one. */
export function listOf<T extends z.ZodType>(item: T) {
  return z.strictObject({ items: z.array(item), nextCursor: nullable(z.string()) });
}
