/** Lists as CSV (RFC 4180): one row an item, one column a field; what is nested gets a column each, `leaf.serial`. */
import type { Request, Response } from "express";
import { z } from "zod";
import { type Components, type JsonSchema, jsonSchemaOf, resolved } from "./json-schema.ts";
import type { Operation } from "./operation.ts";

const lineEnd = "\r\n";

/** The way to a field: `["leaf", "serial"]`. */
export type Column = readonly string[];

/** Null where the operation does not answer a list. */
export function columnsOf({ answers }: Pick<Operation, "answers">): readonly Column[] | null {
  const item = itemOf(answers[200]);
  if (item === null) return null;
  const components: Components = new Map();
  return fieldsOf(jsonSchemaOf(item, "output", components), components);
}

/** The schema of what a list holds. */
export function itemOf(answer: z.ZodType | null | undefined): z.ZodType | null {
  if (!(answer instanceof z.ZodObject)) return null;
  const { items, nextCursor }: Readonly<Record<string, unknown>> = answer.shape;
  return items instanceof z.ZodArray && nextCursor !== undefined ? (items.element as z.ZodType) : null;
}

/** A page; where another follows, the header Link says where it is (RFC 8288). */
export function sendCsv(request: Request, response: Response, columns: readonly Column[], page: unknown): void {
  const { items, nextCursor } = page as { readonly items: readonly unknown[]; readonly nextCursor: string | null };
  if (nextCursor !== null) response.setHeader("Link", `<${nextPage(request.originalUrl, nextCursor)}>; rel="next"`);
  response.status(200);
  response.setHeader("Content-Type", "text/csv; charset=utf-8; header=present");
  response.setHeader("Cache-Control", "no-store");
  response.end(Buffer.from(csvOf(columns, items)));
}

/** Header and rows. */
export function csvOf(columns: readonly Column[], items: readonly unknown[]): string {
  const header = columns.map((column) => column.join("."));
  const rows = items.map((item) => columns.map((column) => cellOf(valueAt(item, column))));
  return [header, ...rows].map((cells) => cells.map(quoted).join(",") + lineEnd).join("");
}

/** Lists of words are joined by blanks; what has more structure is JSON. */
function cellOf(value: unknown): string {
  if (value === undefined || value === null) return "";
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  if (typeof value === "string") return harmless(value);
  if (Array.isArray(value) && value.every((part) => typeof part === "string")) return harmless(value.join(" "));
  return JSON.stringify(value);
}

/** A spreadsheet takes a cell that begins so for a formula, and what it says may be a stranger's word. */
function harmless(text: string): string {
  return /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
}

function quoted(cell: string): string {
  return /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}

function valueAt(item: unknown, column: Column): unknown {
  let value = item;
  for (const name of column) {
    if (typeof value !== "object" || value === null) return undefined;
    value = (value as Readonly<Record<string, unknown>>)[name];
  }
  return value;
}

function fieldsOf(schema: JsonSchema, components: Components): readonly Column[] {
  const properties = propertiesOf(schema, components);
  if (properties === null) return [[]];
  return Object.entries(properties).flatMap(([name, field]) =>
    fieldsOf(field, components).map((rest) => [name, ...rest]),
  );
}

/** Of an object, also of one that may be null. */
function propertiesOf(schema: JsonSchema, components: Components): Readonly<Record<string, JsonSchema>> | null {
  const { properties, anyOf } = resolved(schema, components) as {
    readonly properties?: Readonly<Record<string, JsonSchema>>;
    readonly anyOf?: readonly JsonSchema[];
  };
  if (properties !== undefined) return properties;
  const [one, ...others] = (anyOf ?? []).filter(({ type }) => type !== "null");
  return one === undefined || others.length > 0 ? null : propertiesOf(one, components);
}

function nextPage(url: string, cursor: string): string {
  const next = new URL(url, "https://localhost");
  next.searchParams.set("cursor", cursor);
  return `${next.pathname}${next.search}`;
}
