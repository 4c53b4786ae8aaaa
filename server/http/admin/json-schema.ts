/** JSON Schema (draft 2020-12) of the schemas that check and describe, with their named parts apart. */
import { z } from "zod";

export type JsonSchema = Readonly<Record<string, unknown>>;

/** Named schemas, collected while others are written that refer to them. */
export type Components = Map<string, JsonSchema>;

/** What is sent (`input`: defaults may be left out) or what is answered (`output`). */
export type Direction = "input" | "output";

const definitions = "#/$defs/";
const components = "#/components/schemas/";

/**
 * Adds the schema's named parts to `into` and refers to them there.
 * @throws Error when two different schemas have one name
 */
export function jsonSchemaOf(schema: z.ZodType, io: Direction, into: Components): JsonSchema {
  // Wrapped, so that a named schema is referred to like any part.
  const { properties, $defs = {} } = z.toJSONSchema(z.strictObject({ it: schema }), { io, override: simplify });
  for (const [name, definition] of Object.entries($defs)) define(into, name, relinked(definition));
  return relinked(properties?.["it"] ?? {});
}

/** A schema, or the one it refers to. */
export function resolved(schema: JsonSchema, from: Components): JsonSchema {
  const { $ref } = schema;
  return typeof $ref === "string" ? (from.get($ref.slice(components.length)) ?? {}) : schema;
}

export function refersTo(name: string): JsonSchema {
  return { $ref: `${components}${name}` };
}

function define(into: Components, name: string, { id: _id, ...schema }: JsonSchema): void {
  const present = into.get(name);
  if (present !== undefined && JSON.stringify(present) !== JSON.stringify(schema)) {
    throw new Error(`two different schemas are named ${name}`);
  }
  into.set(name, schema);
}

function relinked(schema: unknown): JsonSchema {
  const text = JSON.stringify(schema, (key, value: unknown) =>
    key === "$ref" && typeof value === "string" ? value.replace(definitions, components) : value,
  );
  return JSON.parse(text) as JsonSchema;
}

/** `format: date-time` says it; the pattern beside it is 300 characters. */
function simplify({
  jsonSchema,
}: {
  readonly jsonSchema: { format?: string | undefined; pattern?: string | undefined };
}) {
  if (jsonSchema.format === "date-time") delete jsonSchema.pattern;
}
