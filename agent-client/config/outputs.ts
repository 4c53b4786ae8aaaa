/** What is put on disk and where: the keys files, links, copies, template, passphraseFile and maxFileBytes of a certificate. */
import { basename, isAbsolute, normalize } from "node:path";
import { nearest } from "@newleaf/shared/nearest";
import { openSection, readPath, type Section } from "./section.ts";
import {
  type FileName,
  fileNames,
  isKnownFile,
  type KnownFile,
  type OutputName,
  outputName,
  storeFiles,
} from "../install/material.ts";
import type { Target } from "../install/target.ts";

export const outputKeys = ["files", "links", "copies", "template", "passphraseFile", "maxFileBytes"];

type Outputs = Pick<Target, "files" | "links" | "copies" | "templates" | "stores" | "maxFileBytes">;

const defaultFiles: readonly FileName[] = ["key.pem", "cert.pem", "chain.pem", "fullchain.pem", "ca.pem", "crl.pem"];
/** Smaller than any key with its certificate. */
const leastFileBytes = 256;

/** @param alias the certificate's name, which its entry in a keystore gets */
export function readOutputs(section: Section, alias: string, problems: string[]): Outputs {
  const templates = readTemplates(section, problems);
  const files = [...readFiles(section, templates.length > 0), ...templates.map((template) => template.name)];
  const linked = Object.fromEntries(templates.flatMap(({ link, name }) => (link === null ? [] : [[link, name]])));
  const links = { ...readPlaces(section, "links", files), ...linked };
  const copies = readPlaces(section, "copies", files);
  const directory = section.text("directory");
  for (const path of Object.keys(copies)) {
    if (Object.hasOwn(links, path)) section.problem("copies", `name "${path}", which is a link already`);
    if (directory !== undefined && path.startsWith(`${normalize(directory).replace(/\/+$/, "")}/`))
      section.problem("copies", `name "${path}", which is inside directory: name a place of its own`);
  }
  const passphraseFile = readPassphraseFile(section, files);
  const maxFileBytes = readMaxFileBytes(section);
  return {
    files,
    links,
    ...(Object.keys(copies).length === 0 ? {} : { copies }),
    ...(templates.length === 0 ? {} : { templates: templates.map(({ from, name }) => ({ from, name })) }),
    ...(passphraseFile === null ? {} : { stores: { passphraseFile, alias } }),
    ...(maxFileBytes === null ? {} : { maxFileBytes }),
  };
}

function readFiles(section: Section, mayBeEmpty: boolean): readonly KnownFile[] {
  const names = section.texts("files");
  if (names === undefined) return defaultFiles as readonly KnownFile[];
  if (names.length === 0 && !mayBeEmpty) section.problem("files", "must name at least one file");
  return [...new Set(names)].filter((name) => {
    if (isKnownFile(name)) return true;
    const meant = nearest(name, fileNames);
    section.problem(
      "files",
      `names "${name}"; ${meant === null ? `known files: ${fileNames.join(", ")}` : `did you mean "${meant}"?`}`,
    );
    return false;
  }) as readonly KnownFile[];
}

/** A map from paths to files, for links and copies. */
function readPlaces(section: Section, key: string, files: readonly FileName[]): Readonly<Record<string, FileName>> {
  const value = section.raw(key);
  if (value === undefined) return {};
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    section.problem(key, "must map paths to files, such as { /etc/nginx/tls/server.crt: fullchain.pem }");
    return {};
  }
  const places: Record<string, FileName> = {};
  for (const [path, file] of Object.entries(value as Readonly<Record<string, unknown>>)) {
    const known = files.find((name) => name === file);
    if (!isAbsolute(path)) section.problem(key, `name "${path}", which is not an absolute path`);
    else if (known === undefined) section.problem(key, `point "${path}" at "${String(file)}", which is not in files`);
    else places[normalize(path)] = known;
  }
  return places;
}

interface TemplateEntry {
  readonly from: string;
  readonly name: OutputName;
  /** Where `to` is a path: the link to be made there. */
  readonly link: string | null;
}

/** One `{ from, to }` or a list of them. */
function readTemplates(section: Section, problems: string[]): readonly TemplateEntry[] {
  const value = section.raw("template");
  if (value === undefined) return [];
  const list: readonly unknown[] = Array.isArray(value) ? value : [value];
  const entries: TemplateEntry[] = [];
  for (const [at, item] of list.entries()) {
    const path = `${section.path}.template${Array.isArray(value) ? `[${at}]` : ""}`;
    const part = openSection(item, path, ["from", "to"], problems);
    if (part === null) continue;
    const from = readPath(part, "from");
    const to = part.required("to") ?? "";
    const name = isAbsolute(to) ? nameAtPath(to) : outputName(to);
    if (name !== null && !entries.some((entry) => entry.name === name)) {
      entries.push({ from, name, link: isAbsolute(to) ? normalize(to) : null });
    } else if (to !== "") {
      const why = name === null ? "must be an absolute path, or a file name of its own" : "is used twice";
      part.problem("to", `${why}: letters, digits, dot, dash, underscore, and none of ${fileNames.join(", ")}`);
    }
  }
  return entries;
}

/** The file behind the link at `path`: called like it as far as that can be (`/srv/app/.env` → `env`). */
function nameAtPath(path: string): OutputName | null {
  const name = basename(path).replace(/^\.+/, "");
  return outputName(name) ?? outputName(`rendered-${name}`);
}

function readPassphraseFile(section: Section, files: readonly FileName[]): string | null {
  const needing = files.find((name) => (storeFiles as readonly string[]).includes(name));
  if (!section.has("passphraseFile")) {
    if (needing !== undefined)
      section.problem("passphraseFile", `is missing: ${needing} is protected with a passphrase`);
    return null;
  }
  if (needing === undefined)
    section.problem("passphraseFile", `is of no use without ${storeFiles.join(" or ")} in files`);
  return readPath(section, "passphraseFile");
}

function readMaxFileBytes(section: Section): number | null {
  const text = section.text("maxFileBytes");
  if (text === undefined) return null;
  const bytes = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (bytes < leastFileBytes)
    section.problem("maxFileBytes", `must be a number of bytes, ${leastFileBytes} at least, not "${text}"`);
  return bytes;
}
