/** inventory.yml, read strictly: an unknown key is an error that names it and the nearest known one. */
import { type Names, noNames } from "@newleaf/shared/names";
import { nearest } from "@newleaf/shared/nearest";
import { AppError } from "@newleaf/shared/problems";
import { parseDocument, stringify } from "yaml";
import { z } from "zod";

export interface InventoryFileEntry {
  readonly id: string;
  readonly profile: string;
  readonly names: Names;
  readonly keys: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
}

const texts = z
  .array(z.string())
  .nullish()
  .transform((list) => list ?? []);
const entry = z.strictObject({
  id: z.string(),
  profile: z.enum(["agent", "gateway", "operator"]),
  names: z
    .strictObject({ dns: texts, ip: texts, uri: texts, email: texts })
    .nullish()
    .transform((names) => names ?? noNames),
  keys: texts,
  labels: z
    .record(z.string(), z.string())
    .nullish()
    .transform((labels) => labels ?? {}),
});
const file = z.strictObject({ identities: z.array(entry) });

const known: Readonly<Record<string, readonly string[]>> = {
  "": Object.keys(file.shape),
  identities: Object.keys(entry.shape),
  "identities.names": ["dns", "ip", "uri", "email"],
};

/**
 * @param name of the file, for messages
 * @throws AppError request-invalid naming every fault and the identity it is in
 */
export function parseInventory(text: string, name: string): readonly InventoryFileEntry[] {
  const document = parseDocument(text, { uniqueKeys: true });
  const fault = document.errors[0] ?? document.warnings[0];
  if (fault !== undefined) throw new AppError("request-invalid", `${name} is not YAML: ${fault.message}`);
  const value: unknown = document.toJS({ maxAliasCount: 100 });
  if (value === null || typeof value !== "object" || Array.isArray(value))
    throw new AppError("request-invalid", `${name} holds no inventory: it has to begin with \`identities:\``);
  const parsed = file.safeParse(value);
  if (parsed.success) return parsed.data.identities;
  const faults = parsed.error.issues.flatMap((issue) => describe(issue, value));
  throw new AppError("request-invalid", `${name} does not hold:\n  ${faults.join("\n  ")}`);
}

/** The file that `parseInventory` reads back. */
export function writeInventory(entries: readonly InventoryFileEntry[]): string {
  const identities = entries.map(({ id, profile, names, keys, labels }) => ({ id, profile, names, keys, labels }));
  return stringify({ identities }, { lineWidth: 0, flowCollectionPadding: true });
}

function describe(issue: z.core.$ZodIssue, value: unknown): string[] {
  const where = place(issue.path, value);
  if (issue.code !== "unrecognized_keys") return [`${where}: ${issue.message}`];
  const section = issue.path.filter((part) => typeof part !== "number").join(".");
  return issue.keys.map((key) => {
    const meant = nearest(key, known[section] ?? []);
    return `${where === "" ? "" : `${where}: `}"${key}" is not a known key${meant === null ? "" : `; did you mean "${meant}"?`}`;
  });
}

/** `identities[3] (gateway-1) names.dns` */
function place(path: readonly PropertyKey[], value: unknown): string {
  const [first, index, ...rest] = path;
  if (typeof index !== "number") return path.map(String).join(".");
  const list = (value as { readonly identities?: readonly { readonly id?: unknown }[] }).identities;
  const id = list?.[index]?.id;
  return `${String(first)}[${index}]${typeof id === "string" ? ` (${id})` : ""} ${rest.map(String).join(".")}`.trimEnd();
}
