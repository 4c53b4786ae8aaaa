/**
 * One line of the journal: what one commit did. JSON, with `hash` last: the SHA-256, in lower-case hex, of the line's bytes before
 * `,"hash":`. Each line names the hash of the one before it, so that none can be changed, taken out or put in between:
 * `sed 's/,"hash":"[0-9a-f]*"}$//' | tr -d '\n' | sha256sum` agrees on a single line.
 */
import { hash as digest } from "node:crypto";
import type { JournalPosition } from "../journal.ts";
import { fromJournalText, toJournalText } from "./values.ts";

/** `previous` of line 1, and the position of a journal without lines. */
export const journalStart = "0".repeat(64);

export interface AuditTail {
  readonly seq: number;
  readonly hash: string;
}

export interface JournalLine {
  readonly journal: string;
  readonly n: number;
  /** By the host's clock; for people, nothing depends on it. */
  readonly at: number;
  /** Number of the newest migration: commands name none, so a later schema must still know what they mean. */
  readonly schema: number;
  /** Why the journal begins anew here: what came before is not complete. Such a line has no commands. */
  readonly base?: string;
  readonly commands: readonly (readonly [string, readonly unknown[]])[];
  /** The end of the audit chain once this line was carried out. */
  readonly audit: AuditTail;
  readonly previous: string;
  readonly hash: string;
}

/** What the chain is checked by. */
export type LineLink = JournalPosition & { readonly previous: string };

/** A line that is not as it was written. */
export class DamagedLine extends Error {
  override readonly name = "DamagedLine";
}

/** A command as it stands in a line. @throws TypeError when it is no plain data */
export function commandText(name: string, given: readonly unknown[]): string {
  return toJournalText([name, given]);
}

export function formatLine(
  line: Omit<JournalLine, "commands" | "hash">,
  commands: readonly string[],
): { readonly text: string; readonly hash: string } {
  const { journal, n, at, schema, base, audit, previous } = line;
  const head = `{"journal":"${journal}","n":${n},"at":${at},"schema":${schema}`;
  const content =
    `${head}${base === undefined ? "" : `,"base":${JSON.stringify(base)}`},"commands":[${commands.join(",")}]` +
    `,"audit":{"seq":${audit.seq},"hash":"${audit.hash}"},"previous":"${previous}"`;
  const hash = digest("sha256", content, "hex");
  return { text: `${content},"hash":"${hash}"}\n`, hash };
}

const link = /^\{"journal":"([0-9a-f]{32})","n":(\d{1,15}),/;
const end = /,"previous":"([0-9a-f]{64})","hash":"([0-9a-f]{64})"\}$/;
/** Length of `,"hash":"…"}`. */
const sealLength = 75;

/**
 * Checks a line's hash, without reading its commands.
 * @param text without the line feed
 * @throws DamagedLine
 */
export function readLink(text: string): LineLink {
  const [, journal, n] = link.exec(text) ?? [];
  const [, previous, hash] = end.exec(text) ?? [];
  if (journal === undefined || n === undefined || previous === undefined || hash === undefined) {
    throw new DamagedLine("it is no whole line of a journal");
  }
  if (digest("sha256", text.slice(0, -sealLength), "hex") !== hash) {
    throw new DamagedLine("its hash is not the hash of its content");
  }
  return { journal, n: Number(n), previous, hash };
}

/** @param text without the line feed @throws DamagedLine */
export function readLine(text: string): JournalLine {
  const checked = readLink(text);
  // The hash holds, so this is what some version of this file wrote.
  const line = fromJournalText(text) as JournalLine;
  const { seq, hash } = line.audit;
  if (!Array.isArray(line.commands) || typeof seq !== "number" || typeof hash !== "string") {
    throw new DamagedLine("it was written by a version of Newleaf that this one does not know");
  }
  return { ...line, ...checked };
}

/** The next line after `previous` in the chain? Null when it is, else what is wrong. */
export function breakBetween(previous: JournalPosition, next: LineLink): string | null {
  if (next.journal !== previous.journal) return `it belongs to another journal (${next.journal})`;
  if (next.n !== previous.n + 1) return `it is line ${next.n} and follows line ${previous.n}`;
  if (next.previous !== previous.hash)
    return `it does not follow from line ${previous.n}: one of the two is of another history`;
  return null;
}
