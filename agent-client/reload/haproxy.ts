/**
 * HAProxy: certificate, CA file and CRL are changed in the running worker through the Runtime API, and no connection notices.
 * The files on disk are in step already: the next reload reads the same. Some news has to be told by a reload all the same:
 *
 * - Something was revoked, or a CA is no longer trusted: sessions that could be resumed are not verified again until a reload.
 * - HAProxy does not know the file by this name, or the payload exceeds the socket's buffer (`tune.bufsize`, 16 kB).
 * - Nothing is news: then the last telling did not help.
 */
import { X509Certificate } from "node:crypto";
import { readFile, realpath } from "node:fs/promises";
import { join } from "node:path";
import { pemDecode } from "@newleaf/shared/pem";
import { currentLink, type Target } from "../install/target.ts";
import { describeParent, reloadByParent, validateParent } from "./haproxy-parent.ts";
import { reloadByMaster, validateMaster } from "./haproxy-master.ts";
import { ask, isSpeakable, socketProblem } from "./runtime-api.ts";
import { describeSignal, reloadBySignal, validateSignal } from "./signal.ts";
import type { Change, HaproxyStrategy, ReloadContext, ReloadResult } from "./strategy.ts";
import { describeSystemd, reloadBySystemd, validateSystemd } from "./systemd.ts";

/** A commit goes through every `bind` line that uses the file. */
const commitTimeoutMs = 30_000;
/** Nothing is done yet when the socket is only looked at. */
const lookTimeoutMs = 3000;
const maxQuoted = 200;

type Kind = "cert" | "ca-file" | "crl-file";

/** The socket cannot do it; a reload may. */
class NotThisWay extends Error {}

/** HAProxy looked at it and said no: a reload would find the same on disk. */
class Refused extends Error {}

/** Tells HAProxy. Never throws; may be repeated. */
export async function reloadByHaproxy(
  strategy: HaproxyStrategy,
  context: ReloadContext & { readonly change: Change },
): Promise<ReloadResult> {
  const { target, change } = context;
  if (target === undefined) return { ok: false, detail: "nothing is installed that HAProxy could be handed" };
  const why = whyReload(target, change);
  if (strategy.reload !== null && why !== null) return reloadInstead(strategy.reload, context, why);
  try {
    const done = await update(strategy, target, change, context.signal);
    return { ok: true, detail: `${done.join(", ")} changed through ${strategy.socket}` };
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error);
    if (error instanceof Refused) return { ok: false, refused: true, detail };
    if (strategy.reload === null || context.signal?.aborted === true) return { ok: false, detail };
    return reloadInstead(strategy.reload, context, detail);
  }
}

/** Whether telling HAProxy of this is a reload, which reads all of its files and so serves every certificate of it at once. */
export function reloadsHaproxy(strategy: HaproxyStrategy, { target, change }: ReloadContext): boolean {
  if (strategy.reload === null || target === undefined) return false;
  const allNews = { leaf: true, trust: true, revoked: true, crls: true };
  return whyReload(target, change ?? allNews) !== null;
}

export function describeHaproxy(strategy: HaproxyStrategy): string {
  return `HAProxy's socket ${strategy.socket}${strategy.reload === null ? "" : `, or ${describeReload(strategy.reload)}`}`;
}

/** What is wrong with the sockets, the names and the way to reload; changes nothing. */
export async function validateHaproxy(strategy: HaproxyStrategy, context: ReloadContext): Promise<readonly string[]> {
  const reload = strategy.reload === null ? [] : await validateReload(strategy.reload, context);
  return [...(await validateSocket(strategy, context)), ...reload];
}

async function validateSocket(strategy: HaproxyStrategy, context: ReloadContext): Promise<readonly string[]> {
  const { socket } = strategy;
  const { target, signal } = context;
  const wrong = await socketProblem(socket);
  if (wrong !== null) return [wrong];
  try {
    const processes = await ask(socket, ["show", "proc"], { signal, timeoutMs: lookTimeoutMs, shut: true });
    if (/^\d+\s+master\s/m.test(processes))
      return [`${socket} is the socket of HAProxy's master: name the path of a \`stats socket\` instead`];
    const version = (await ask(socket, ["show", "version"], { signal, timeoutMs: lookTimeoutMs })).trim();
    if (!/^\d/.test(version))
      return [
        `${socket} does not answer as a HAProxy worker: name the path of a \`stats socket\`, of HAProxy 2.4 or later`,
      ];
    const level = (await ask(socket, ["show", "cli", "level"], { signal })).trim();
    if (level !== "admin")
      return [
        `${socket} has the level ${level.slice(0, 20)}: write \`stats socket ${socket} level admin\` in haproxy.cfg`,
      ];
    const problems: string[] = [];
    for (const [kind, named] of [
      ["cert", true],
      ["ca-file", strategy.caFile !== null],
      ["crl-file", strategy.crlFile !== null],
    ] as const) {
      // A CA file or CRL that haproxy.cfg does not name is brought by a reload, if it is of any use to it at all.
      if (!named || target === undefined) continue;
      const names = namesOf(strategy, target, kind);
      if ((await known(socket, kind, names, signal)).length === 0) problems.push(unknown(kind, names));
    }
    return problems;
  } catch (error) {
    return [error instanceof Error ? error.message : String(error)];
  }
}

/** Null when the socket will do. */
function whyReload({ files }: Target, change: Change): string | null {
  const crls = files.includes("crl.pem");
  if (crls && change.revoked) return "certificates were revoked: sessions that could be resumed must go";
  if (change.leaf || (files.includes("ca.pem") && change.trust) || (crls && change.crls)) return null;
  return "the socket had been told already";
}

async function reloadInstead(
  reload: NonNullable<HaproxyStrategy["reload"]>,
  context: ReloadContext,
  why: string,
): Promise<ReloadResult> {
  const told = await reloadBy(reload, context);
  return { ...told, detail: `${told.detail} (not through the socket: ${why})` };
}

function reloadBy(reload: NonNullable<HaproxyStrategy["reload"]>, context: ReloadContext): Promise<ReloadResult> {
  switch (reload.kind) {
    case "systemd":
      return reloadBySystemd(reload, context);
    case "signal":
      return reloadBySignal(reload);
    case "master":
      return reloadByMaster(reload, context);
    case "parent":
      return reloadByParent(reload, context);
  }
}

function describeReload(reload: NonNullable<HaproxyStrategy["reload"]>): string {
  switch (reload.kind) {
    case "systemd":
      return describeSystemd(reload);
    case "signal":
      return describeSignal(reload);
    case "master":
      return `reload through ${reload.socket}`;
    case "parent":
      return describeParent();
  }
}

async function validateReload(
  reload: NonNullable<HaproxyStrategy["reload"]>,
  context: ReloadContext,
): Promise<readonly string[]> {
  switch (reload.kind) {
    case "systemd":
      return validateSystemd(reload, context);
    case "signal":
      return validateSignal(reload);
    case "master":
      return validateMaster(reload);
    case "parent":
      return validateParent(reload);
  }
}

/** What is news goes through the socket: what clients are judged by first, then what they are shown. */
async function update(
  strategy: HaproxyStrategy,
  target: Target,
  change: Change,
  signal: AbortSignal | undefined,
): Promise<readonly string[]> {
  const { socket } = strategy;
  const wrong = await socketProblem(socket);
  if (wrong !== null) throw new NotThisWay(wrong);
  // One version, whatever happens to the link meanwhile.
  const directory = await realpath(currentLink(target));
  const read = (name: string): Promise<string> => readFile(join(directory, name), "utf8");
  const wanted: { readonly kind: Kind; readonly pem: string }[] = [];
  if (change.trust && target.files.includes("ca.pem")) wanted.push({ kind: "ca-file", pem: await read("ca.pem") });
  if (change.crls && target.files.includes("crl.pem")) wanted.push({ kind: "crl-file", pem: await read("crl.pem") });
  if (change.leaf || wanted.length === 0) {
    const parts = target.files.includes("combined.pem") ? ["combined.pem"] : ["key.pem", "fullchain.pem"];
    wanted.push({ kind: "cert", pem: (await Promise.all(parts.map(read))).join("") });
  }
  const done: string[] = [];
  for (const { kind, pem } of wanted) {
    const candidates = namesOf(strategy, target, kind);
    const names = await known(socket, kind, candidates, signal);
    if (names.length === 0) throw new NotThisWay(unknown(kind, candidates));
    for (const name of names) {
      await replace({ socket, signal }, kind, name, pem);
      done.push(name);
    }
  }
  return done;
}

interface Line {
  readonly socket: string;
  readonly signal: AbortSignal | undefined;
}

async function replace({ socket, signal }: Line, kind: Kind, name: string, pem: string): Promise<void> {
  const say = (verb: string, extra: { payload?: string; timeoutMs?: number } = {}): Promise<string> =>
    ask(socket, [verb, "ssl", kind, name], { signal, ...extra });
  const wanted = kind === "crl-file" ? [] : pemDecode(pem, "CERTIFICATE").map(sha1);
  if (kind === "ca-file") {
    const loaded = fingerprintsIn(await say("show"));
    if (loaded.some((one) => !wanted.includes(one)))
      throw new NotThisWay("a CA is no longer trusted: sessions that could be resumed must go");
  }
  // Left open by a crash. "No ongoing transaction!" is as good.
  await say("abort");
  const set = await say("set", { payload: pem });
  const isFree = (answer: string): void => {
    if (/ongoing transaction is about/i.test(answer))
      throw new NotThisWay(`somebody else's transaction is open on ${socket}: ${quoted(answer, name)}`);
  };
  isFree(set);
  if (!/transaction (?:created|updated)/i.test(set)) {
    await say("abort");
    if (set.trim() === "")
      throw new NotThisWay(`${name} has ${pem.length} bytes, more than the socket takes (tune.bufsize)`);
    if (/permission denied/i.test(set))
      throw new NotThisWay(`write \`stats socket ${socket} level admin\` in haproxy.cfg: ${quoted(set, name)}`);
    throw new Refused(`HAProxy does not take ${name}: ${quoted(set, name)}`);
  }
  const committed = await say("commit", { timeoutMs: commitTimeoutMs });
  if (!/^Success!/m.test(committed)) {
    isFree(committed);
    await say("abort");
    throw new Refused(`HAProxy refused ${name} and keeps the old one: ${quoted(committed, name)}`);
  }
  if (kind === "crl-file") return;
  const now = fingerprintsIn(await say("show"));
  const [leaf] = wanted;
  const isThere = kind === "cert" ? now[0] === leaf : wanted.every((one) => now.includes(one));
  if (!isThere) throw new NotThisWay(`HAProxy says Success, and still shows another ${name}`);
}

/** Where a file may be named in haproxy.cfg: all of these that HAProxy knows are changed. */
function namesOf(strategy: HaproxyStrategy, target: Target, kind: Kind): readonly string[] {
  const [chosen, file] = {
    cert: [strategy.certificate, "combined.pem"] as const,
    "ca-file": [strategy.caFile, "ca.pem"] as const,
    "crl-file": [strategy.crlFile, "crl.pem"] as const,
  }[kind];
  if (chosen !== null) return [chosen];
  const fixed = Object.entries({ ...target.links, ...target.copies }).filter(([, name]) => name === file);
  return [join(currentLink(target), file), ...fixed.map(([path]) => path)].filter(isSpeakable);
}

async function known(
  socket: string,
  kind: Kind,
  names: readonly string[],
  signal: AbortSignal | undefined,
): Promise<readonly string[]> {
  const found: string[] = [];
  for (const name of names) {
    const shown = await ask(socket, ["show", "ssl", kind, name], { signal });
    if (shown.startsWith(`Filename: ${name}\n`)) found.push(name);
  }
  return found;
}

function unknown(kind: Kind, names: readonly string[]): string {
  const option = { cert: "certificate", "ca-file": "caFile", "crl-file": "crlFile" }[kind];
  return `HAProxy has loaded no ${kind} named ${names.join(" or ")}: give \`${option}\` the name that haproxy.cfg has, or restart HAProxy if it is new there`;
}

/** `SHA1 FingerPrint: 113E…` of each certificate shown, in order. */
function fingerprintsIn(shown: string): readonly string[] {
  return [...shown.matchAll(/^SHA1 FingerPrint: ([0-9A-F]{40})$/gm)].map(([, hex]) => hex ?? "");
}

function sha1(der: Buffer): string {
  return new X509Certificate(der).fingerprint.replaceAll(":", "");
}

/** An answer as part of a message; should it repeat what it was sent, it may hold a key. */
function quoted(answer: string, name: string): string {
  // oxlint-disable-next-line no-control-regex
  const line = answer.trim().replaceAll(/[\u0000-\u001f\u007f]+/g, " ");
  if (/-----|[A-Za-z0-9+/=]{40}/.test(line.replaceAll(name, ""))) return "(its answer is not repeated here)";
  return line.length <= maxQuoted ? line : `${line.slice(0, maxQuoted)}…`;
}
