/**
 * A command's arguments as JSON and back: everything that can go to the writer thread, exactly. What JSON has no word for becomes an
 * object with one member whose name begins with a dollar sign; objects that have such names of their own are written as `$object`.
 */

/** @throws TypeError for what is no plain data: functions, instances of classes, symbols */
export function toJournalText(value: unknown): string {
  return JSON.stringify(toJson(value));
}

/** What `toJournalText` was given. @throws SyntaxError, TypeError */
export function fromJournalText(text: string): unknown {
  return fromJson(JSON.parse(text));
}

function toJson(value: unknown): unknown {
  switch (typeof value) {
    case "string":
    case "boolean":
      return value;
    case "number":
      return Number.isFinite(value) && !Object.is(value, -0)
        ? value
        : { $number: Object.is(value, -0) ? "-0" : `${value}` };
    case "undefined":
      return { $undefined: true };
    case "bigint":
      return { $bigint: value.toString() };
    case "object":
      return value === null ? null : objectToJson(value);
    default:
      throw new TypeError(`The journal cannot hold a ${typeof value}.`);
  }
}

function objectToJson(value: object): unknown {
  if (Array.isArray(value)) return value.map(toJson);
  if (value instanceof Uint8Array) {
    return { $bytes: Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64") };
  }
  if (value instanceof Map) return { $map: [...value].map(([key, item]) => [toJson(key), toJson(item)]) };
  if (value instanceof Set) return { $set: [...value].map(toJson) };
  if (value instanceof Date) return { $date: value.getTime() };
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) {
    throw new TypeError(`The journal cannot hold a ${value.constructor.name}.`);
  }
  const entries = Object.entries(value).map(([key, item]) => [key, toJson(item)] as const);
  return entries.some(([key]) => key.startsWith("$")) ? { $object: entries } : Object.fromEntries(entries);
}

function fromJson(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(fromJson);
  const entries = Object.entries(value);
  const [only] = entries;
  if (entries.length === 1 && only?.[0].startsWith("$") === true) return fromTagged(only[0], only[1]);
  return Object.fromEntries(entries.map(([key, item]) => [key, fromJson(item)]));
}

function fromTagged(tag: string, content: unknown): unknown {
  if (tag === "$undefined") return undefined;
  if (tag === "$bytes" && typeof content === "string") return new Uint8Array(Buffer.from(content, "base64"));
  if (tag === "$number" && typeof content === "string") return Number(content);
  if (tag === "$bigint" && typeof content === "string") return BigInt(content);
  if (tag === "$date" && (typeof content === "number" || content === null)) return new Date(content ?? Number.NaN);
  if (Array.isArray(content)) {
    const items: readonly unknown[] = content;
    if (tag === "$set") return new Set(items.map(fromJson));
    if (tag === "$map") return new Map(items.map((item) => pairOf(item, fromJson)));
    if (tag === "$object") return Object.fromEntries(items.map((item) => pairOf(item, String)));
  }
  throw new TypeError(`The journal holds a value that this version does not know: ${tag.slice(0, 40)}.`);
}

function pairOf<Key>(item: unknown, toKey: (value: unknown) => Key): [Key, unknown] {
  if (!Array.isArray(item) || item.length !== 2) throw new TypeError("The journal holds a pair that is none.");
  return [toKey(item[0]), fromJson(item[1])];
}
