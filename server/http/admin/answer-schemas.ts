/** Pieces that the answers of the admin API are made of. They describe; nothing is checked against them on the way out. */
import { z } from "zod";

/** ISO 8601 in UTC. */
export const time = z.iso.datetime().describe("ISO 8601 in UTC");
/** ISO 8601 as a host wrote it. */
export const hostTime = z.iso.datetime({ offset: true }).describe("ISO 8601, by the clock of the host");
export const identityId = z.string().describe("id of an identity of the inventory");
export const serial = z.string().regex(/^[0-9a-f]+$/);
export const fingerprint = z.string().regex(/^sha256:[0-9a-f]{64}$/);
export const count = z.int().nonnegative();
export const profileName = z.enum(["agent", "gateway", "operator", "service"]);

export const roleName = z.enum(["viewer", "approver", "operator", "admin"]);
export const certificateState = z.enum(["pending", "current", "superseded", "replaced", "held", "revoked", "expired"]);
export const issuerState = z.enum(["staged", "active", "draining", "retired"]);

export const namesAnswer = z
  .strictObject({
    dns: z.array(z.string()),
    ip: z.array(z.string()),
    uri: z.array(z.string()),
    email: z.array(z.string()),
  })
  .meta({ id: "Names" });

export const renewalPeriod = z.strictObject({ start: time, end: time }).meta({ id: "RenewalPeriod" });

export function nullable<T extends z.ZodType>(schema: T): z.ZodNullable<T> {
  return z.nullable(schema);
}

/** A page; `nextCursor` is null on the last one. */
export function listOf<T extends z.ZodType>(item: T) {
  return z.strictObject({ items: z.array(item), nextCursor: nullable(z.string()) });
}

/** What a function that makes such an answer returns: the schema's type, of which nothing has to be copied. */
export type AnswerOf<S extends z.ZodType> = Frozen<z.output<S>>;

type Frozen<T> = T extends readonly (infer Item)[]
  ? readonly Frozen<Item>[]
  : T extends object
    ? { readonly [Name in keyof T]: Frozen<T[Name]> }
    : T;
