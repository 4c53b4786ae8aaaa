/** `newleaf cert …` */
import { revocationReasons } from "@newleaf/shared/api";
import type { Command } from "commander";
import { normaliseSerial } from "@newleaf/shared/serial-number";
import {
  commandGroup,
  durationText,
  fingerprintText,
  harmfulCommand,
  oneOf,
  readingCommand,
  withClient,
} from "./admin-command.ts";
import type { CertificateSummary, RevocationAnswer } from "./answers.ts";
import { asJson, asRecord, asTable, moment } from "./output.ts";
import type { Terminal } from "./terminal.ts";
import { UsageError } from "./usage-error.ts";

const itself = (serial: string): string => `/v1/certificates/${normaliseSerial(serial)}`;

export function addCertCommands(program: Command, terminal: Terminal): void {
  const group = commandGroup(program, "cert", "certificates that were issued");
  addList(group, terminal);
  addShowAndExport(group, terminal);
  addRevoke(group, terminal);
  addHoldAndRelease(group, terminal);
}

interface ListOptions {
  readonly identity?: string;
  readonly state?: string;
  readonly profile?: string;
  readonly expiresBefore?: string;
}

const states = ["pending", "current", "superseded", "replaced", "held", "revoked", "expired"];
function addList(group: Command, terminal: Terminal): void {
  readingCommand(group, {
    usage: "list",
    summary: "every certificate in the store",
    examples: ["newleaf cert list --identity gateway-1", "newleaf cert list --state revoked --json"],
  })
    .option("--identity <id>", "only of this identity")
    .option("--state <state>", "pending, current, superseded, replaced, held, revoked or expired", oneOf(...states))
    .option(
      "--profile <profile>",
      "agent, gateway, operator or service",
      oneOf("agent", "gateway", "operator", "service"),
    )
    .option("--expires-before <duration>", "only leaves in force that end within this time", durationText)
    .action(
      withClient<ListOptions>(terminal, async ({ client, options, json }) => {
        const { identity, state, profile, expiresBefore } = options;
        const items = await client.list<CertificateSummary>("/v1/certificates", {
          identity,
          state,
          profile,
          expiresBefore,
        });
        const rows = items.map((item) => [
          item.serial,
          item.identity,
          item.reason === null ? item.state : `${item.state} (${item.reason})`,
          moment(item.notAfter),
          lineageText(item),
        ]);
        terminal.out(
          json
            ? asJson(items)
            : asTable(["SERIAL", "IDENTITY", "STATE", "ENDS", "LINEAGE"], rows, "No certificate matches."),
        );
      }),
    );
}

function addShowAndExport(group: Command, terminal: Terminal): void {
  readingCommand(group, {
    usage: "show <serial>",
    summary: "what is known about one certificate",
    examples: ["newleaf cert show 4f1c09d2…", "newleaf cert show 4f1c09d2… --json"],
    notes: "Serials are hex; upper case and colons, as openssl prints them, are understood.",
  }).action(
    withClient(terminal, async ({ client, json }, serial = "") => {
      const found = await client.get<CertificateSummary>(itself(serial));
      const { certificate, chain: _, ...facts } = found;
      terminal.out(json ? asJson(found) : asRecord(facts) + (certificate ?? ""));
    }),
  );
  readingCommand(group, {
    usage: "export <serial>",
    summary: "the certificate and its intermediates, PEM",
    examples: [
      "newleaf cert export 4f1c09d2… | openssl x509 -noout -text",
      "newleaf cert export 4f1c09d2… --leaf > leaf.pem",
    ],
  })
    .option("--leaf", "without the intermediates")
    .action(
      withClient<{ readonly leaf?: boolean }>(terminal, async ({ client, options, json }, serial = "") => {
        const { certificate = "", chain = "" } = await client.get<CertificateSummary>(itself(serial));
        const whole = options.leaf === true ? { certificate } : { certificate, chain };
        terminal.out(json ? asJson(whole) : Object.values(whole).join(""));
      }),
    );
}

interface RevokeOptions {
  readonly serial?: string;
  readonly lineage?: string;
  readonly identity?: string;
  readonly key?: string;
  readonly reason: string;
  readonly dryRun?: boolean;
}

function addRevoke(group: Command, terminal: Terminal): void {
  harmfulCommand(group, {
    usage: "revoke",
    summary: "refuse certificates for good, at once, and put them on the CRL",
    examples: [
      "newleaf cert revoke --serial 4f1c09d2… --reason superseded",
      "newleaf cert revoke --identity gateway-1 --reason cessationOfOperation --dry-run",
      "newleaf cert revoke --key sha256:3b7c… --reason keyCompromise --yes",
    ],
    notes: "Exactly one of --serial, --lineage, --identity, --key. keyCompromise also blocks the keys for ever.",
  })
    .option("--serial <serial>", "one certificate")
    .option("--lineage <lineage>", "every generation of a lineage; ends it and blocks its keys")
    .option("--identity <id>", "everything an identity holds")
    .option("--key <fingerprint>", "everything issued for a key, sha256:HEX", fingerprintText)
    .option(
      "--reason <reason>",
      `${revocationReasons.slice(0, -1).join(", ")} or ${revocationReasons.at(-1)}`,
      oneOf(...revocationReasons),
      "unspecified",
    )
    .option("--dry-run", "only show what would be revoked")
    .action(
      withClient<RevokeOptions>(terminal, async (context) => {
        const { options, json } = context;
        const body = { ...targetOf(options), reason: options.reason };
        if (options.dryRun !== true) {
          const answer = await revokeAsked(context, body);
          if (answer !== null) terminal.out(json ? asJson(answer) : revocationText(answer));
          return;
        }
        const answer = await context.client.post<RevocationAnswer>("/v1/revocations", { ...body, dryRun: true });
        terminal.out(json ? asJson(answer) : revocationText(answer));
      }),
    );
}

interface Asking {
  readonly client: { post<T>(path: string, body: unknown): Promise<T> };
  readonly terminal: Terminal;
  readonly options: { readonly yes?: boolean };
  confirm(question: string): Promise<boolean>;
}

/** Shows what would be revoked, asks, does it. Null when the answer was no. */
export async function revokeAsked(
  { client, terminal, options, confirm }: Asking,
  body: Readonly<Record<string, unknown>>,
): Promise<RevocationAnswer | null> {
  if (options.yes !== true) {
    if (terminal.isInteractive)
      terminal.err(revocationText(await client.post<RevocationAnswer>("/v1/revocations", { ...body, dryRun: true })));
    if (!(await confirm("Revoke?"))) return null;
  }
  return client.post<RevocationAnswer>("/v1/revocations", { ...body, dryRun: false });
}

export function revocationText({ revoked, blockedKeys, dryRun }: RevocationAnswer): string {
  const rows = revoked.map((item) => [
    item.serial,
    item.identity,
    item.reason,
    item.state === "unchanged" ? "already revoked" : dryRun ? "would be revoked" : "revoked",
  ]);
  const keys = blockedKeys.map((key) => `${dryRun ? "would block" : "blocked"} key ${key}\n`).join("");
  return asTable(["SERIAL", "IDENTITY", "REASON", "OUTCOME"], rows, "There is nothing to revoke.") + keys;
}

function addHoldAndRelease(group: Command, terminal: Terminal): void {
  harmfulCommand(group, {
    usage: "hold <serial>",
    summary: "refuse a certificate until it is released (certificateHold)",
    examples: ["newleaf cert hold 4f1c09d2…"],
  }).action(
    withClient(terminal, async ({ client, confirm, json }, serial = "") => {
      if (!(await confirm(`Hold ${serial}? It is refused everywhere until it is released.`))) return;
      const answer = await client.post(`${itself(serial)}/revocation`, { reason: "certificateHold" });
      terminal.out(json ? asJson(answer) : `${serial} is held. End it with: newleaf cert release ${serial}\n`);
    }),
  );
  readingCommand(group, {
    usage: "release <serial>",
    summary: "end a hold; any other revocation is final",
    examples: ["newleaf cert release 4f1c09d2…"],
  }).action(
    withClient(terminal, async ({ client, json }, serial = "") => {
      const answer = await client.remove(`${itself(serial)}/revocation`);
      terminal.out(json ? asJson(answer) : `${serial} is no longer held.\n`);
    }),
  );
}

function targetOf({ serial, lineage, identity, key }: RevokeOptions): Readonly<Record<string, string>> {
  const targets = Object.entries({ serial, lineage, identity, key }).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, value] as const],
  );
  const [target, ...more] = targets;
  if (target === undefined || more.length > 0)
    throw new UsageError("Say exactly one of --serial, --lineage, --identity, --key");
  return { [target[0]]: target[0] === "serial" ? normaliseSerial(target[1]) : target[1] };
}

function lineageText({ lineage, generation }: CertificateSummary): string {
  return lineage === null ? "-" : `${lineage} #${generation}`;
}
