import type { X509Certificate } from "node:crypto";
import { nearest } from "@newleaf/shared/nearest";
import { pemDecode } from "@newleaf/shared/pem";

import { InstallError } from "./target.ts";
import { isPemFile, type PemFile, pemFiles } from "./material.ts";

/** A configuration file, not a book. */
export const maxTemplateBytes = 256 * 1024;
const maxPlaceholders = 1000;

const facts = ["fingerprint", "serial", "notAfter", "identity", "directory"] as const;
type Fact = (typeof facts)[number];
const filters = ["json", "base64", "der64"] as const;
type Filter = (typeof filters)[number];
/** Files that hold exactly one thing: only of that there is one DER. */
const single: readonly PemFile[] = ["key.pem", "tls.key", "cert.pem"];
const known: readonly string[] = [...pemFiles, ...facts];

type Piece =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "value"; readonly name: PemFile | Fact; readonly filter: Filter | null }
  /** A placeholder with a line to itself: each line of its value begins with `indent` and ends with `end`. */
  | {
      readonly kind: "block";
      readonly indent: string;
      readonly end: string;
      readonly value: Piece & { kind: "value" };
    };

/** A template that was read and found good. */
export interface Template {
  readonly pieces: readonly Piece[];
  /** The files whose content it shows. */
  readonly uses: ReadonlySet<PemFile>;
}

/** What a template may show. */
export interface TemplateValues extends Readonly<Record<Fact, string>> {
  /** The PEM of a file. */
  pem(file: PemFile): string;
}

/**
 * Reads a template: text with placeholders such as `{{ key.pem }}` or `{{ cert.pem | json }}`.
 *
 * A placeholder alone on its line is replaced by all lines of its value, each indented as the placeholder is, so that YAML block
 * scalars stay what they are; without a trailing blank line or space. Within a line only one-line values can stand: PEM needs a
 * filter there. `{{ "{{" }}` stands for two braces.
 *
 * @param from names the template in messages
 * @throws InstallError naming the line and what to write instead; never with more of the template than the placeholder
 */
export function parseTemplate(bytes: Uint8Array, from: string): Template {
  if (bytes.length > maxTemplateBytes)
    throw new InstallError(`the template ${from} is larger than ${maxTemplateBytes} bytes`);
  const text = decodeText(bytes, from);
  const pieces: Piece[] = [];
  let count = 0;
  for (const [at, line] of (text.match(/[^\n]*\n|[^\n]+$/g) ?? []).entries()) {
    const found = parseLine(line, `line ${at + 1} of the template ${from}`);
    count += found.filter((piece) => piece.kind !== "text").length;
    if (count > maxPlaceholders)
      throw new InstallError(`the template ${from} has more than ${maxPlaceholders} placeholders`);
    pieces.push(...found);
  }
  const uses = new Set<PemFile>();
  for (const piece of pieces) {
    const value = piece.kind === "block" ? piece.value : piece;
    if (value.kind === "value" && isPemFile(value.name)) uses.add(value.name);
  }
  return { pieces, uses };
}

/** The template with its values in place. */
export function renderTemplate(template: Template, values: TemplateValues): Buffer {
  return Buffer.from(template.pieces.map((piece) => show(piece, values)).join(""), "utf8");
}

/** What a certificate lets templates show besides the files. @param directory where the files in force are: `…/current` */
export function factsFor(
  leaf: X509Certificate,
  { identity, directory, fingerprint }: Pick<TemplateValues, "identity" | "directory" | "fingerprint">,
): Readonly<Record<Fact, string>> {
  const serial = leaf.serialNumber.toLowerCase();
  return { fingerprint, serial, notAfter: leaf.validToDate.toISOString(), identity, directory };
}

function decodeText(bytes: Uint8Array, from: string): string {
  try {
    // A byte order mark is the writer's business, and stays.
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    throw new InstallError(`the template ${from} is not UTF-8 text: save it as UTF-8`, error);
  }
}

const placeholder = /\{\{(.*?)\}\}/g;
const aloneOnLine = /^([ \t]*)\{\{((?:(?!\}\}).)*)\}\}[ \t]*(\r?\n|\r?$)$/;

function parseLine(line: string, where: string): readonly Piece[] {
  const alone = aloneOnLine.exec(line);
  if (alone !== null) {
    const [, indent = "", inside = "", end = ""] = alone;
    const value = parsePlaceholder(inside, where);
    return value.kind === "value"
      ? [{ kind: "block", indent, end, value }]
      : [{ kind: "text", text: indent }, value, { kind: "text", text: end }];
  }
  const pieces: Piece[] = [];
  let done = 0;
  for (const match of line.matchAll(placeholder)) {
    pieces.push({ kind: "text", text: checkText(line.slice(done, match.index), where) });
    const piece = parsePlaceholder(match[1] ?? "", where);
    if (piece.kind === "value" && piece.filter === null && isPemFile(piece.name)) {
      throw new InstallError(
        `${where}: {{ ${piece.name} }} has many lines: write {{ ${piece.name} | json }} inside double quotes, or give it a line of its own`,
      );
    }
    pieces.push(piece);
    done = match.index + match[0].length;
  }
  pieces.push({ kind: "text", text: checkText(line.slice(done), where) });
  return pieces;
}

function checkText(text: string, where: string): string {
  if (!text.includes("{{")) return text;
  throw new InstallError(
    `${where}: "{{" opens a placeholder that does not end on its line: close it with "}}", or write {{ "{{" }} for the braces`,
  );
}

function parsePlaceholder(inside: string, where: string): Piece & { kind: "value" | "text" } {
  const [name = "", filter, ...more] = inside.split("|").map((part) => part.trim());
  if (name === '"{{"' && filter === undefined) return { kind: "text", text: "{{" };
  if (!isPemFile(name) && !isFact(name)) throw new InstallError(`${where}: ${unknown("placeholder", name, known)}`);
  if (more.length > 0) throw new InstallError(`${where}: one filter is enough: {{ ${name} | ${filter} }}`);
  if (filter === undefined) return { kind: "value", name, filter: null };
  if (!isFilter(filter)) throw new InstallError(`${where}: ${unknown("filter", filter, filters)}`);
  if (filter === "der64" && !single.some((file) => file === name)) {
    throw new InstallError(
      `${where}: der64 is for ${single.join(", ")}, which hold one thing each: for ${name} write {{ ${name} | base64 }}`,
    );
  }
  return { kind: "value", name, filter };
}

function unknown(what: string, name: string, all: readonly string[]): string {
  const meant = nearest(name, all);
  const shown = name.slice(0, 60);
  return `unknown ${what} "${shown}"; ${meant === null ? `there are ${all.join(", ")}` : `did you mean "${meant}"?`}`;
}

function isFact(name: string): name is Fact {
  return (facts as readonly string[]).includes(name);
}

function isFilter(name: string): name is Filter {
  return (filters as readonly string[]).includes(name);
}

function show(piece: Piece, values: TemplateValues): string {
  if (piece.kind === "text") return piece.text;
  if (piece.kind === "value") return valueOf(piece, values);
  const lines = valueOf(piece.value, values).split("\n");
  // PEM ends with a newline; an empty value (no intermediates) leaves no line behind.
  if (lines.at(-1) === "") lines.pop();
  return (
    lines.map((line) => piece.indent + line).join(piece.end === "" ? "\n" : piece.end) +
    (lines.length === 0 ? "" : piece.end)
  );
}

function valueOf({ name, filter }: Piece & { kind: "value" }, values: TemplateValues): string {
  const text = isPemFile(name) ? values.pem(name) : values[name];
  switch (filter) {
    case null:
      return text;
    case "json":
      // JSON's escapes are a subset of YAML's and TOML's; DEL is the one character that TOML wants escaped and JSON does not.
      return JSON.stringify(text).slice(1, -1).replaceAll("\u007f", "\\u007f");
    case "base64":
      return Buffer.from(text, "utf8").toString("base64");
    case "der64": {
      const [der] = pemDecode(text, text.includes("PRIVATE KEY") ? "PRIVATE KEY" : "CERTIFICATE");
      return (der ?? Buffer.alloc(0)).toString("base64");
    }
  }
}
