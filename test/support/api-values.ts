/** Values for fields of the admin API, by chance that can be repeated: right ones by schema and by name, and wild ones. */
type Schema = Readonly<Record<string, unknown>>;

/** xorshift32: the same seed makes the same requests. */
export class Chance {
  #state: number;

  constructor(seed: number) {
    this.#state = seed === 0 ? 1 : seed | 0;
  }

  /** 0 to below `limit`. */
  below(limit: number): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return (x >>> 0) % limit;
  }

  of(probability: number): boolean {
    return this.below(1_000_000) < probability * 1_000_000;
  }

  pick<T>(values: readonly T[]): T {
    const value = values[this.below(values.length)];
    if (value === undefined) throw new Error("nothing to pick from");
    return value;
  }
}

const maxKnown = 200;

/** Values that exist, by what they are called: requests about what there is reach deeper. */
export class Known {
  readonly #values = new Map<string, string[]>();
  readonly #spare: readonly string[];

  /** @param spare never kept */
  constructor(spare: readonly string[]) {
    this.#spare = spare;
  }

  add(name: string, value: string): void {
    if (value === "" || value.length > 600 || this.#spare.some((kept) => value.includes(kept))) return;
    const values = this.#values.get(name) ?? [];
    if (values.includes(value)) return;
    if (values.length >= maxKnown) values.shift();
    values.push(value);
    this.#values.set(name, values);
  }

  one(chance: Chance, name: string): string {
    for (const kind of [name, ...(kinds[name] ?? [])]) {
      const values = this.#values.get(kind);
      if (values !== undefined && chance.of(0.9)) return chance.pick(values);
    }
    return `${name}-${chance.below(1000)}`;
  }
}

/** What a field may be found under in answers. */
const kinds: Readonly<Record<string, readonly string[]>> = {
  identities: ["identity"],
  operators: ["identity"],
  lineages: ["lineage"],
  pauses: ["identity"],
  id: ["identities", "identity"],
  identity: ["identities"],
  lineage: ["lineages"],
  key: ["fingerprint"],
  keys: ["key", "fingerprint"],
  target: ["identity", "serial", "lineage"],
  actor: ["identity"],
  cursor: ["nextCursor"],
  q: ["identity", "serial", "fingerprint", "label"],
};

const byName: Readonly<Record<string, readonly string[]>> = {
  ttl: ["1h", "10s", "30d", "24h", "5s", "31d", "0s", "-1h", "1.5h", "P1D", "999999999d"],
  reason: ["keyCompromise", "superseded", "certificateHold", "unspecified", "privilegeWithdrawn", "aACompromise", "no"],
  expiresBefore: ["7d", "31d", "2030-01-01T00:00:00Z", "1970-01-01", "never", "9999-99-99", "-1d", "275760-09-14"],
  after: ["1h", "2020-01-01T00:00:00Z", "0", "10", "x"],
  before: ["1h", "2030-01-01T00:00:00Z", "x"],
  dns: ["web.claw.internal", "a.b.c", "*.claw.internal", "UPPER.claw.internal", "-bad-", "x y", "ä.example"],
  ip: ["10.0.0.1", "::1", "fe80::1", "256.1.1.1", "10.0.0.0/8", "0x7f.1"],
  uri: ["spiffe://claw/x", "https://x/", "not a uri", "urn:x:y"],
  email: ["a@claw.internal", "a@b@c", "@", "ä@x"],
  label: ["site=lab", "site", "=", "a=b=c", "%=%"],
  fingerprint: [`sha256:${"a".repeat(64)}`, "sha256:", "md5:00"],
  key: [`sha256:${"b".repeat(64)}`],
  keys: [`sha256:${"c".repeat(64)}`, `sha256:${"d".repeat(64)}`, "no key"],
  limit: ["1", "2", "100", "1000", "0", "1001", "-1", "1e2", "NaN", "0x10", "1.5", " 5"],
};

const wild: readonly string[] = [
  "",
  " ",
  "\u0000",
  "a\u0000b",
  "é漢字🦊",
  "\u202Egnp.exe",
  "\ud800",
  "a".repeat(64),
  "a".repeat(65),
  "a".repeat(3000),
  "../../etc/passwd",
  "' OR 1=1 --",
  '"; DROP TABLE identities; --',
  "%",
  "_",
  "\\",
  "*",
  '"',
  "__proto__",
  "constructor",
  "toString",
  "-1",
  "1e309",
  "NaN",
  "null",
  "=cmd()",
  "\r\nX-Injected: 1",
  "<script>",
  "${7*7}",
  "AND OR NOT NEAR(",
];

export function wildText(chance: Chance): string {
  const text = chance.pick(wild);
  return chance.of(0.2) ? text + chance.pick(wild) : text;
}

/** For a query: mostly what the schema takes. */
export function parameterText(chance: Chance, known: Known, name: string, schema: Schema): string {
  if (chance.of(0.15)) return wildText(chance);
  const value = makeValue(chance, known, schema, (same) => same, name);
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** A value that the schema takes, as far as names and types say. */
export function makeValue(
  chance: Chance,
  known: Known,
  given: Schema,
  resolve: (schema: Schema) => Schema,
  name = "",
): unknown {
  const schema = resolve(given);
  const {
    type,
    enum: choices,
    const: only,
    anyOf,
    oneOf,
    items,
    minimum,
    maximum,
  } = schema as {
    readonly type?: string | readonly string[];
    readonly enum?: readonly unknown[];
    readonly const?: unknown;
    readonly anyOf?: readonly Schema[];
    readonly oneOf?: readonly Schema[];
    readonly items?: Schema;
    readonly minimum?: number;
    readonly maximum?: number;
  };
  if (only !== undefined) return only;
  if (choices !== undefined) return chance.pick(choices);
  const ways = anyOf ?? oneOf;
  if (ways !== undefined) return makeValue(chance, known, chance.pick(ways), resolve, name);
  switch (typeof type === "string" ? type : chance.pick(type ?? ["string"])) {
    case "boolean":
      return chance.of(0.5);
    case "null":
      return null;
    case "integer":
    case "number":
      return Math.max(minimum ?? 0, Math.min(maximum ?? 1000, chance.below(200)));
    case "array":
      return Array.from({ length: chance.below(4) }, () => makeValue(chance, known, items ?? {}, resolve, name));
    case "object":
      return makeObject(chance, known, schema, resolve);
    default:
      return makeText(chance, known, name);
  }
}

function makeObject(
  chance: Chance,
  known: Known,
  schema: Schema,
  resolve: (schema: Schema) => Schema,
): Record<string, unknown> {
  const {
    properties = {},
    required = [],
    additionalProperties,
  } = schema as {
    readonly properties?: Readonly<Record<string, Schema>>;
    readonly required?: readonly string[];
    readonly additionalProperties?: Schema | boolean;
  };
  const wanted = Object.entries(properties).filter(([field]) => required.includes(field) || chance.of(0.4));
  const made = wanted.map(([field, of]) => [field, makeValue(chance, known, of, resolve, field)] as const);
  if (typeof additionalProperties !== "object") return Object.fromEntries(made);
  const more = chance.pick(["site", "owner", "x", "__proto__", "a b", "ключ"]);
  return Object.fromEntries([...made, [more, makeValue(chance, known, additionalProperties, resolve, "label")]]);
}

function makeText(chance: Chance, known: Known, name: string): string {
  const own = byName[name];
  if (own !== undefined && chance.of(0.6)) return chance.pick(own);
  return chance.of(0.92) ? known.one(chance, name) : wildText(chance);
}

/** The value with one thing wrong somewhere in it. */
export function spoil(chance: Chance, value: unknown): unknown {
  if (Array.isArray(value) && value.length > 0 && chance.of(0.8)) {
    const at = chance.below(value.length);
    return value.map((part: unknown, index) => (index === at ? spoil(chance, part) : part));
  }
  if (typeof value === "object" && value !== null && chance.of(0.85)) {
    const fields = Object.entries(value);
    if (fields.length === 0 || chance.of(0.15)) return { ...value, [wildText(chance)]: wildText(chance) };
    const at = chance.below(fields.length);
    if (chance.of(0.25)) return Object.fromEntries(fields.filter((_, index) => index !== at));
    return Object.fromEntries(fields.map(([name, part], index) => [name, index === at ? spoil(chance, part) : part]));
  }
  return chance.pick<unknown>([
    null,
    true,
    0,
    -1,
    1.5,
    1e308,
    Number.MAX_SAFE_INTEGER,
    [],
    {},
    [[]],
    { toString: 1 },
    wildText(chance),
    wildText(chance),
    Array.from({ length: 300 }, () => "x"),
  ]);
}
