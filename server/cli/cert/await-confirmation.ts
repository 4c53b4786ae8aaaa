/** `--wait`: follows an act until every connected agent has the CRL in force that tells of it. */
import { setTimeout as sleep } from "node:timers/promises";
import { parseDuration } from "@newleaf/shared/duration";
import type { AdminClient } from "../admin-client.ts";
import type { ConfirmationsAnswer, ListingCrlAnswer } from "../answers.ts";
import { moment, printable } from "../output.ts";
import type { Terminal } from "../terminal.ts";

/** The act is done and could not be confirmed everywhere: exit code 1, without a stack. */
export class Unconfirmed extends Error {
  override readonly name = "Unconfirmed";
}

export interface Wait {
  /** As given: `30s`. */
  readonly duration: string;
  /** For the last line: `Revoked`. */
  readonly done: string;
}

const askEvery = 250;
const named = 10;

/**
 * Asks until all have confirmed, saying on stderr how far it is.
 * @returns the last answers, one for each issuer
 */
export async function awaitConfirmation(
  client: AdminClient,
  terminal: Terminal,
  crls: readonly ListingCrlAnswer[],
  wait: Wait,
): Promise<WaitResult> {
  const { duration, done } = wait;
  const deadline = performance.now() + parseDuration(duration);
  const unlisted = crls.filter(({ number }) => number === null).map(({ issuer }) => issuer);
  const answers = new Map<string, ConfirmationsAnswer>();
  let said = "";
  for (;;) {
    for (const { issuer, number } of crls) {
      if (number === null || isConfirmed(answers.get(issuer))) continue;
      const path = `/v1/crls/${encodeURIComponent(issuer)}/confirmations`;
      answers.set(issuer, await client.get<ConfirmationsAnswer>(path, { number }));
    }
    const all = [...answers.values()];
    const progress = all
      .map((answer) => `CRL ${answer.number}: ${answer.confirmed} of ${answer.connected} connected agents have it\n`)
      .join("");
    if (progress !== said) terminal.err(progress);
    said = progress;
    const confirmed = unlisted.length === 0 && all.every(isConfirmed);
    if (confirmed || unlisted.length > 0 || performance.now() >= deadline) {
      for (const answer of all) terminal.err(silentText(answer));
      return { confirmed, confirmations: all, problem: confirmed ? null : problemText(done, duration, all, unlisted) };
    }
    await sleep(Math.min(askEvery, Math.max(0, deadline - performance.now())));
  }
}

export interface WaitResult {
  readonly confirmed: boolean;
  readonly confirmations: readonly ConfirmationsAnswer[];
  /** What the command ends with; null when all have confirmed. */
  readonly problem: string | null;
}

function isConfirmed(answer: ConfirmationsAnswer | undefined): boolean {
  return answer !== undefined && answer.confirmed >= answer.connected;
}

/** They do not count: nobody knows whether they run. But whoever runs without its agent still admits the revoked one. */
function silentText({ silent, silentUnconfirmed }: ConfirmationsAnswer): string {
  if (silentUnconfirmed.length === 0) return "";
  const names = silentUnconfirmed
    .slice(0, named)
    .map(({ identity, lastSeen }) => `${identity} (seen ${moment(lastSeen)})`);
  const more = silent > names.length ? ` and others, ${silent} in all` : "";
  return printable(`Not connected, and not known to have it: ${names.join(", ")}${more}`).concat("\n");
}

function problemText(
  done: string,
  duration: string,
  answers: readonly ConfirmationsAnswer[],
  unlisted: readonly string[],
): string {
  if (unlisted.length > 0) {
    return `${done} but unconfirmed: no CRL of issuer ${unlisted.join(", ")} lists it yet. Its leaves are still being listed, or its key is not at hand: newleaf ca list`;
  }
  const hosts = answers
    .flatMap(({ unconfirmed }) => unconfirmed)
    .map(({ identity, number, failure }) => {
      const has = number === null ? "no CRL" : `CRL ${number}`;
      return `${identity} (has ${has}${failure === null ? "" : `; ${failure}`})`;
    });
  const missing = answers.reduce((sum, { connected, confirmed }) => sum + connected - confirmed, 0);
  const more = missing > named ? `, and ${missing - named} more` : "";
  return printable(`${done} but unconfirmed after ${duration}: ${hosts.slice(0, named).join(", ")}${more}`);
}
