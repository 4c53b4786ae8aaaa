/** inventory.yml, read strictly: an unknown key is an error that names it and the nearest known one. */
import { type Names, noNames } from "@newleaf/shared/names";
import { nearest } from "@newleaf/shared/nearest";
import { AppError } from "@newleaf/shared/problems";
import { type Document, isMap, isNode, isPair, isScalar, LineCounter, parseDocument, stringify } from "yaml";
import { z } from "zod";

export interface InventoryFileEntry {
  readonly id: string;
  readonly profile: string;
  readonly names: Names;
  readonly keys: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly owner?: string | null;
  readonly notes?: string | null;
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
  owner: z.string().nullish(),
  notes: z.string().nullish(),
});
const file = z.strictObject({ identities: z.array(entry) });

/** That are listed; a file with a wrong first line has thousands. */
const maxFaults = 50;

const known: Readonly<Record<string, readonly string[]>> = {
  "": Object.keys(file.shape),
  identities: Object.keys(entry.shape),
  "identities.names": ["dns", "ip", "uri", "email"],
};

/**
 * @param name of the file, for messages
 * @throws AppError request-invalid naming every fault, its line and the identity it is in
 */
export function parseInventory(text: string, name: string): readonly InventoryFileEntry[] {
  const lines = new LineCounter();
  const document = parseDocument(text, { uniqueKeys: true, lineCounter: lines });
  const fault = document.errors[0] ?? document.warnings[0];
  if (fault !== undefined) throw new AppError("request-invalid", `${name} is not YAML: ${fault.message}`);
  const value: unknown = document.toJS({ maxAliasCount: 100 });
  if (value === null || typeof value !== "object" || Array.isArray(value))
    throw new AppError("request-invalid", `${name} holds no inventory: it has to begin with \`identities:\``);
  const parsed = file.safeParse(value);
  if (parsed.success) return parsed.data.identities.map(withoutNothing);
  const issues = parsed.error.issues.slice(0, maxFaults);
  const faults = issues.flatMap((issue) => describe(issue, value, (path) => lineOf(document, lines, path)));
  const more = parsed.error.issues.length - issues.length;
  if (more > 0) faults.push(`and ${more} more`);
  throw new AppError("request-invalid", `${name} does not hold:\n  ${faults.join("\n  ")}`);
}

/** The file that `parseInventory` reads back. */
export function writeInventory(entries: readonly InventoryFileEntry[]): string {
  const identities = entries.map(({ id, profile, names, keys, labels, owner, notes }) => ({
    id,
    profile,
    names,
    keys,
    labels,
    ...(owner == null ? {} : { owner }),
    ...(notes == null ? {} : { notes }),
  }));
  return stringify({ identities }, { lineWidth: 0, flowCollectionPadding: true, blockQuote: false });
}

/** `owner:` with nothing behind it names nobody. */
function withoutNothing({ owner, notes, ...others }: z.output<typeof entry>): InventoryFileEntry {
  return { ...others, ...(owner == null ? {} : { owner }), ...(notes == null ? {} : { notes }) };
}

function describe(issue: z.core.$ZodIssue, value: unknown, line: (path: readonly PropertyKey[]) => string): string[] {
  const where = place(issue.path, value);
  if (issue.code === "invalid_value" && issue.path.reduce<unknown>(inner, value) === undefined)
    return [`${line(issue.path)}${where} is missing; it is one of ${issue.values.map(String).join(", ")}`];
  if (issue.code !== "unrecognized_keys") return [`${line(issue.path)}${where}: ${issue.message}`];
  const section = issue.path.filter((part) => typeof part !== "number").join(".");
  return issue.keys.map((key) => {
    const meant = nearest(key, known[section] ?? []);
    const at = line([...issue.path, key]);
    return `${at}${where === "" ? "" : `${where}: `}"${key}" is not a known key${meant === null ? "" : `; did you mean "${meant}"?`}`;
  });
}

function inner(value: unknown, key: PropertyKey): unknown {
  return typeof value === "object" && value !== null ? Reflect.get(value, key) : undefined;
}

/** `line 12: `, of the value at a path, or of what holds it when there is none. */
function lineOf(document: Document, lines: LineCounter, path: readonly PropertyKey[]): string {
  for (let length = path.length; length > 0; length--) {
    const parent: unknown = length === 1 ? document.contents : document.getIn(path.slice(0, length - 1), true);
    const key = path[length - 1];
    const pair = isMap(parent)
      ? parent.items.find((item) => isPair(item) && isScalar(item.key) && item.key.value === key)
      : undefined;
    // The key says where it is written; of a list, the item itself.
    const node: unknown = pair?.key ?? document.getIn(path.slice(0, length), true);
    const offset = isNode(node) ? node.range?.[0] : undefined;
    if (offset !== undefined) return `line ${lines.linePos(offset).line}: `;
  }
  return "";
}

/** `identities[3] (gateway-1) names.dns` */
function place(path: readonly PropertyKey[], value: unknown): string {
  const [first, index, ...rest] = path;
  if (typeof index !== "number") return path.map(String).join(".");
  const list = (value as { readonly identities?: readonly { readonly id?: unknown }[] }).identities;
  const id = list?.[index]?.id;
  return `${String(first)}[${index}]${typeof id === "string" ? ` (${id})` : ""} ${rest.map(String).join(".")}`.trimEnd();
}
