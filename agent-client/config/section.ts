import { isAbsolute, normalize } from "node:path";
import { parseDuration } from "@newleaf/shared/duration";
import { nearest } from "@newleaf/shared/nearest";

/**
 * One mapping of the configuration file, read key by key. Every scalar is text: YAML is parsed with the failsafe schema, so that
 * `mode: 0640` is what was typed and not the number 640. What is wrong is collected in `problems`, and the reader goes on.
 */
export interface Section {
  readonly path: string;
  has(key: string): boolean;
  /** Undefined when absent or not text. */
  text(key: string): string | undefined;
  /** Like `text`; absent is a problem. */
  required(key: string): string | undefined;
  /** `true` or `false`. */
  flag(key: string, absent: boolean): boolean;
  /** Milliseconds. */
  duration(key: string, absent: number): number;
  /** A list of texts. */
  texts(key: string): readonly string[] | undefined;
  /** The value as it is. */
  raw(key: string): unknown;
  /** Notes a problem with a key. */
  problem(key: string, what: string): undefined;
}

/** Null when `value` is no mapping; keys that are not in `known` are problems that name the nearest one. */
export function openSection(
  value: unknown,
  path: string,
  known: readonly string[],
  problems: string[],
): Section | null {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    problems.push(`${path === "" ? "the file" : path} must be a mapping with the keys ${known.join(", ")}`);
    return null;
  }
  const fields = value as Readonly<Record<string, unknown>>;
  const at = (key: string): string => (path === "" ? key : `${path}.${key}`);
  for (const key of Object.keys(fields)) {
    if (known.includes(key)) continue;
    const meant = nearest(key, known);
    const hint = meant === null ? `known keys: ${known.join(", ")}` : `did you mean "${meant}"?`;
    problems.push(`unknown key "${at(key)}"; ${hint}`);
  }
  return sectionOf(fields, path, at, problems);
}

function sectionOf(
  fields: Readonly<Record<string, unknown>>,
  path: string,
  at: (key: string) => string,
  problems: string[],
): Section {
  const has = (key: string): boolean => Object.hasOwn(fields, key) && fields[key] !== "" && fields[key] !== null;
  const problem = (key: string, what: string): undefined => void problems.push(`${at(key)} ${what}`);
  const text = (key: string): string | undefined => {
    if (!has(key)) return undefined;
    const value = fields[key];
    return typeof value === "string" ? value : problem(key, "must be a single value");
  };
  return {
    path,
    has,
    text,
    problem,
    raw: (key) => (has(key) ? fields[key] : undefined),
    required: (key) => (has(key) ? text(key) : problem(key, "is missing")),
    flag(key, absent) {
      const value = text(key);
      if (value === undefined) return absent;
      if (value !== "true" && value !== "false") problem(key, `must be true or false, not "${value}"`);
      return value === "true";
    },
    duration(key, absent) {
      const value = text(key);
      if (value === undefined) return absent;
      try {
        return parseDuration(value);
      } catch (error) {
        problem(key, (error as Error).message);
        return absent;
      }
    },
    texts(key) {
      if (!has(key)) return undefined;
      const value = fields[key];
      if (!Array.isArray(value) || value.some((item) => typeof item !== "string")) {
        return problem(key, "must be a list of single values, such as [a, b]");
      }
      return value as readonly string[];
    },
  };
}

/** An absolute path. @returns "" after noting a problem */
export function readPath(section: Section, key: string): string {
  const path = section.required(key);
  if (path === undefined) return "";
  if (!isAbsolute(path)) section.problem(key, `must be an absolute path, not "${path}"`);
  return normalize(path).replace(/(.)\/+$/, "$1");
}

/** One of a few words. */
export function readChoice<Word extends string>(
  section: Section,
  key: string,
  words: readonly Word[],
  absent: Word,
): Word {
  const text = section.text(key);
  if (text === undefined) return absent;
  const found = words.find((word) => word === text);
  if (found !== undefined) return found;
  const meant = nearest(text, words);
  section.problem(
    key,
    `is "${text}"; ${meant === null ? "it" : `did you mean ${meant}? It`} is one of ${words.join(", ")}`,
  );
  return absent;
}

/** A program and its arguments. Undefined when absent. */
export function readArgv(section: Section, key: string): readonly string[] | undefined {
  const argv = section.texts(key);
  if (argv !== undefined && (argv[0] ?? "") === "")
    section.problem(key, "must be a program and its arguments, such as [nginx, -t]");
  return argv;
}
