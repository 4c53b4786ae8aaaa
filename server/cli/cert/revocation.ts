/** `newleaf cert revoke|hold|release`: what is refused from now on, where it was, and that it took effect. */
import { revocationReasons } from "@newleaf/shared/api";
import type { Command } from "commander";
import { normaliseSerial } from "@newleaf/shared/serial-number";
import type { AdminClient } from "../admin-client.ts";
import {
  type AdminContext,
  type AdminOptions,
  durationText,
  fingerprintText,
  harmfulCommand,
  oneOf,
  readingCommand,
  withClient,
} from "../admin-command.ts";
import type { IssuerAnswer, IssuerStepAnswer, ListingCrlAnswer, RevocationAnswer } from "../answers.ts";
import { awaitConfirmation, Unconfirmed, type Wait, type WaitResult } from "./await-confirmation.ts";
import { asJson, asTable, moment } from "../output.ts";
import type { Terminal } from "../terminal.ts";
import { UsageError } from "../usage-error.ts";

export function addRevocationCommands(group: Command, terminal: Terminal): void {
  addRevoke(group, terminal);
  addHold(group, terminal);
  addRelease(group, terminal);
}

interface RevokeOptions {
  readonly serial?: string;
  readonly lineage?: string;
  readonly identity?: string;
  readonly key?: string;
  readonly issuer?: string;
  readonly reason: string;
  readonly dryRun?: boolean;
  readonly wait?: string;
}

/** Of an issuer only. */
const issuerReason = "cACompromise";

function addRevoke(group: Command, terminal: Terminal): void {
  harmfulCommand(group, {
    usage: "revoke",
    summary: "refuse certificates for good, at once, and put them on the CRL",
    examples: [
      "newleaf cert revoke --serial 4f1c09d2… --reason superseded --wait 30s",
      "newleaf cert revoke --identity gateway-1 --reason cessationOfOperation --dry-run",
      "newleaf cert revoke --key sha256:3b7c… --reason keyCompromise --yes",
      "newleaf cert revoke --issuer 3f9a0c17d2b4e586 --reason cACompromise --dry-run",
    ],
    notes: `Exactly one of --serial, --lineage, --identity, --key, --issuer. keyCompromise also blocks the keys for ever.
With --wait the command ends when every connected agent has the CRL in force; at the timeout with exit code 1, naming who has not.
--issuer needs the role admin, and a ceremony afterwards: newleaf ca crl.`,
  })
    .option("--serial <serial>", "one certificate")
    .option("--lineage <lineage>", "every generation of a lineage; ends it and blocks its keys")
    .option("--identity <id>", "everything an identity holds")
    .option("--key <fingerprint>", "everything issued for a key, sha256:HEX", fingerprintText)
    .option("--issuer <id>", "an issuing CA and every leaf under it")
    .option(
      "--reason <reason>",
      `${revocationReasons.slice(0, -1).join(", ")} or ${revocationReasons.at(-1)}; of an issuer also ${issuerReason}`,
      oneOf(...revocationReasons, issuerReason),
      "unspecified",
    )
    .option("--wait <duration>", "follow until every connected agent has confirmed, at most so long", durationText)
    .option("--dry-run", "only show what would be revoked, and where it is")
    .action(
      withClient<RevokeOptions>(terminal, async (context) => {
        const { options, json } = context;
        const body = { ...targetOf(options), reason: options.reason };
        if (options.dryRun === true) {
          const answer = await context.client.post<RevocationAnswer>("/v1/revocations", { ...body, dryRun: true });
          terminal.out(json ? asJson(answer) : revocationText(answer));
          return;
        }
        await revokeAsked(context, body);
      }),
    );
}

/** Shows what would be revoked, asks, does it, says it, and waits when asked to. */
export async function revokeAsked(
  context: AdminContext<AdminOptions & { readonly wait?: string }>,
  body: Readonly<Record<string, unknown>>,
): Promise<void> {
  const { client, terminal, options, confirm } = context;
  if (options.yes !== true) {
    if (terminal.isInteractive)
      terminal.err(revocationText(await client.post<RevocationAnswer>("/v1/revocations", { ...body, dryRun: true })));
    if (!(await confirm("Revoke?"))) return;
  }
  const answer = await client.post<RevocationAnswer>("/v1/revocations", { ...body, dryRun: false });
  await sayAndWait(context, { answer, text: revocationText(answer), crls: answer.crls, done: "Revoked" });
}

interface Outcome extends Pick<Wait, "done"> {
  readonly answer: unknown;
  readonly text: string;
  readonly crls: readonly ListingCrlAnswer[];
}

/** What was done is said before the wait, which may be broken off; as JSON it is one object, at the end. */
async function sayAndWait(
  { client, terminal, options, json }: AdminContext<AdminOptions & { readonly wait?: string }>,
  { answer, text, crls, done }: Outcome,
): Promise<void> {
  if (!json) terminal.out(text);
  let result: WaitResult | null = null;
  if (options.wait !== undefined) {
    result = await awaitConfirmation(client, terminal, crls, { duration: options.wait, done });
  }
  if (json) {
    const { confirmed, confirmations } = result ?? {};
    terminal.out(asJson(result === null ? answer : { ...(answer as object), confirmed, confirmations }));
  }
  if (result?.problem != null) throw new Unconfirmed(result.problem);
  if (result === null || json) return;
  const isAnybody = result.confirmations.some(({ connected }) => connected > 0);
  terminal.out(isAnybody ? "Every connected agent has confirmed.\n" : "No agent is connected: nobody confirmed.\n");
}

function revocationText(answer: RevocationAnswer): string {
  const { revoked, total, expired, blockedKeys, dryRun, issuer } = answer;
  const rows = revoked.map((item) => [
    item.serial,
    item.identity,
    item.reason,
    item.state === "unchanged" ? "already revoked" : dryRun ? "would be revoked" : "revoked",
    moment(item.notAfter),
    placesText(item.places),
  ]);
  const headings = ["SERIAL", "IDENTITY", "REASON", "OUTCOME", "ENDS", "INSTALLED AND SERVED"];
  const hosts = new Set(revoked.filter(({ places }) => places.length > 0).map(({ identity }) => identity));
  const leaves = total === 1 ? "1 leaf" : `${total} leaves`;
  const where = hosts.size === 0 ? "in use at no host that reports" : `in use at ${counted(hosts.size, "host")}`;
  return [
    asTable(headings, rows, "There is nothing to revoke."),
    total > revoked.length ? `… and ${total - revoked.length} more\n` : "",
    dryRun && total > 0 ? `${leaves}, ${where}.\n` : "",
    expired > 0
      ? `${counted(expired, "expired leaf", "expired leaves")} left as ${expired === 1 ? "it is" : "they are"}.\n`
      : "",
    ...blockedKeys.map((key) => `${dryRun ? "would block" : "blocked"} key ${key}\n`),
    issuer === undefined ? "" : issuerText(issuer, dryRun),
  ].join("");
}

function placesText(places: RevocationAnswer["revoked"][number]["places"]): string {
  const texts = places.map(({ certificate, installed, served }) => {
    const at = served.map(({ address }) => address).join(" ");
    return `${certificate}${installed ? "" : " (not installed)"}${at === "" ? "" : ` at ${at}`}`;
  });
  return texts.length === 0 ? "-" : texts.join(", ");
}

function issuerText({ issuer, otherIssuers, next, parent, unlistedLeaves }: IssuerStepAnswer, dryRun: boolean): string {
  const busy =
    unlistedLeaves === 0
      ? ""
      : `${unlistedLeaves} leaves are still being put on the CRL; none of them is accepted here any more. The same command again waits for it.\n`;
  const last =
    otherIssuers > 0
      ? ""
      : `${dryRun ? "This is" : "This was"} the only issuing CA: afterwards nothing is issued, and no leaf, also no operator's, is accepted here.\n`;
  const step =
    next === null
      ? `The CRL of ${parent} lists ${issuer}.\n`
      : `Then, where the root key is, so that verifiers refuse the issuer itself:\n  ${next}\nand here: newleaf ca import next.crl\n`;
  return busy + last + step;
}

function counted(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}

function addHold(group: Command, terminal: Terminal): void {
  harmfulCommand(group, {
    usage: "hold <serial>",
    summary: "refuse a certificate until it is released (certificateHold)",
    examples: ["newleaf cert hold 4f1c09d2…", "newleaf cert hold 4f1c09d2… --wait 30s --yes"],
  })
    .option("--wait <duration>", "follow until every connected agent has confirmed, at most so long", durationText)
    .action(
      withClient<{ readonly wait?: string }>(terminal, async (context, given = "") => {
        const serial = normaliseSerial(given);
        if (!(await context.confirm(`Hold ${serial}? It is refused everywhere until it is released.`))) return;
        const body = { serial, reason: "certificateHold", dryRun: false };
        const answer = await context.client.post<RevocationAnswer>("/v1/revocations", body);
        const text = `${serial} is held. End it with: newleaf cert release ${serial}\n`;
        await sayAndWait(context, { answer, text, crls: answer.crls, done: "Held" });
      }),
    );
}

function addRelease(group: Command, terminal: Terminal): void {
  readingCommand(group, {
    usage: "release <serial>",
    summary: "end a hold; any other revocation is final",
    examples: ["newleaf cert release 4f1c09d2…", "newleaf cert release 4f1c09d2… --wait 30s"],
  })
    .option("--wait <duration>", "follow until every connected agent has confirmed, at most so long", durationText)
    .action(
      withClient<{ readonly wait?: string }>(terminal, async (context, given = "") => {
        const serial = normaliseSerial(given);
        const answer = await context.client.remove<{ readonly issuer: string }>(
          `/v1/certificates/${serial}/revocation`,
        );
        const crls = context.options.wait === undefined ? [] : [await newestCrl(context.client, answer.issuer)];
        await sayAndWait(context, { answer, text: `${serial} is no longer held.\n`, crls, done: "Released" });
      }),
    );
}

async function newestCrl(client: AdminClient, issuer: string): Promise<ListingCrlAnswer> {
  const items = await client.list<IssuerAnswer>("/v1/issuers");
  return { issuer, number: items.find(({ id }) => id === issuer)?.crl?.number ?? null };
}

function targetOf({ serial, lineage, identity, key, issuer }: RevokeOptions): Readonly<Record<string, string>> {
  const targets = Object.entries({ serial, lineage, identity, key, issuer }).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, value] as const],
  );
  const [target, ...more] = targets;
  if (target === undefined || more.length > 0)
    throw new UsageError("Say exactly one of --serial, --lineage, --identity, --key, --issuer");
  return { [target[0]]: target[0] === "serial" ? normaliseSerial(target[1]) : target[1] };
}
