/** `newleaf identity …` */
import { readFile } from "node:fs/promises";
import { type Command, InvalidArgumentError } from "commander";
import { readCsr } from "../ca/csr.ts";
import { identitySorts } from "../store/identities.ts";
import {
  collect,
  commandGroup,
  type CommandText,
  durationText,
  harmfulCommand,
  listingCommand,
  oneOf,
  searchText,
  printCsv,
  readingCommand,
  withClient,
} from "./admin-command.ts";
import type { IdentityAnswer } from "./answers.ts";
import { identityText } from "./identity-text.ts";
import { asJson, asRecord, asTable, moment } from "./output.ts";
import type { Terminal } from "./terminal.ts";
import { UsageError } from "./usage-error.ts";
import { systemCause } from "./system-error.ts";

interface EntryOptions {
  readonly profile?: string;
  readonly dns?: readonly string[];
  readonly ip?: readonly string[];
  readonly uri?: readonly string[];
  readonly email?: readonly string[];
  readonly key?: readonly string[];
  readonly keyFrom?: readonly string[];
  readonly label?: readonly string[];
  readonly owner?: string;
  readonly notes?: string;
  readonly rearmKey?: boolean;
}

const itself = (id: string): string => `/v1/identities/${encodeURIComponent(id)}`;

export function addIdentityCommands(program: Command, terminal: Terminal): void {
  const group = commandGroup(program, "identity", "who may hold certificates, with which names and keys");
  addAdd(group, terminal);
  addSet(group, terminal);
  addShow(group, terminal);
  addList(group, terminal);
  addStates(group, terminal);
  addGrantRecovery(group, terminal);
}

function addAdd(group: Command, terminal: Terminal): void {
  const command = readingCommand(group, {
    usage: "add <id>",
    summary: "put an identity into the inventory",
    examples: [
      "newleaf identity add gateway-1 --profile gateway --dns gateway.claw.internal --ip 10.0.1.42",
      "newleaf identity add agent-7 --profile agent --key-from agent-7.csr --label site=lab",
    ],
    notes: "The id becomes the subject CN. An approved key admits one enrollment without a token.",
  }).requiredOption("--profile <profile>", "agent or gateway", checkProfile);
  entryOptions(command).action(
    withClient<EntryOptions>(terminal, async ({ client, options, json }, id = "") => {
      const { dns = [], ip = [], uri = [], email = [] } = options;
      const body = {
        id,
        profile: options.profile,
        names: { dns: given(dns), ip: given(ip), uri: given(uri), email: given(email) },
        keys: (await keysOf(options)) ?? [],
        labels: labelsOf(options) ?? {},
        ...optional("owner", options.owner),
        ...optional("notes", options.notes),
      };
      const identity = await client.post<IdentityAnswer>("/v1/identities", body);
      warn(terminal, identity);
      terminal.out(
        json
          ? asJson(identity)
          : `${identity.id} is in the inventory. A token for its first enrollment: newleaf token create ${identity.id}\n`,
      );
    }),
  );
}

function addSet(group: Command, terminal: Terminal): void {
  const command = readingCommand(group, {
    usage: "set <id>",
    summary: "change names, keys, labels, owner, notes or profile",
    examples: [
      "newleaf identity set gateway-1 --dns gateway.claw.internal --dns gw.claw.internal",
      "newleaf identity set gateway-1 --ip ''          (no addresses any more)",
      "newleaf identity set gateway-1 --label site=lab --owner 'Kim <kim@claw.internal>' --notes 'behind the old switch'",
      "newleaf identity set gateway-1 --rearm-key      (its approved key may enroll once more)",
    ],
    notes:
      "--dns, --ip, --uri, --email, --key and --label replace the whole list; one empty value empties it,\nand an empty --owner or --notes takes it away.",
  })
    .option("--profile <profile>", "agent or gateway", checkProfile)
    .option("--rearm-key", "let the approved keys enroll once more");
  entryOptions(command).action(
    withClient<EntryOptions>(terminal, async ({ client, options, json }, id = "") => {
      const names = Object.fromEntries(
        (["dns", "ip", "uri", "email"] as const).flatMap((kind) => {
          const values = options[kind];
          return values === undefined ? [] : [[kind, given(values)] as const];
        }),
      );
      const body = {
        ...(options.profile === undefined ? {} : { profile: options.profile }),
        ...(Object.keys(names).length === 0 ? {} : { names }),
        ...optional("keys", await keysOf(options)),
        ...optional("labels", labelsOf(options)),
        ...optional("owner", options.owner),
        ...optional("notes", options.notes),
        ...(options.rearmKey === true ? { rearmKeys: true } : {}),
      };
      if (Object.keys(body).length === 0)
        throw new UsageError(
          "Nothing to set: say --dns, --ip, --uri, --email, --key, --key-from, --label, --owner, --notes, --profile or --rearm-key",
        );
      const identity = await client.patch<IdentityAnswer>(itself(id), body);
      warn(terminal, identity);
      terminal.out(json ? asJson(identity) : asRecord(identity));
    }),
  );
}

function addShow(group: Command, terminal: Terminal): void {
  readingCommand(group, {
    usage: "show <id>",
    summary: "everything about one identity: what is wrong, what is issued, installed and served, what it may hold",
    examples: ["newleaf identity show gateway-1", "newleaf identity show gateway-1 --json | jq -r '.wrong[]'"],
    notes:
      "Which is: in-force (all is well), next (the host is ahead of its first use), before (reload pending), withdrawn (revoked, held or\nreplaced), foreign (not issued to it by this service).",
  }).action(
    withClient(terminal, async ({ client, json }, id = "") => {
      const identity = await client.get<IdentityAnswer>(itself(id));
      terminal.out(json ? asJson(identity) : identityText(identity));
    }),
  );
}

interface ListOptions {
  readonly expiresBefore?: string;
  readonly state?: string;
  readonly profile?: string;
  readonly label?: string;
  readonly search?: string;
  readonly sort?: string;
}

function addList(group: Command, terminal: Terminal): void {
  listingCommand(group, {
    usage: "list",
    summary: "the inventory, with the leaf in force of each",
    examples: [
      "newleaf identity list --expires-before 7d",
      "newleaf identity list --profile gateway --state suspended --json",
      "newleaf identity list --search 10.0.1.42",
      "newleaf identity list --search sha256:3b7c42d1 --json",
      "newleaf identity list --label site=lab --sort lastSeen",
    ],
  })
    .option("--expires-before <duration>", "only those whose leaf ends within this time", durationText)
    .option("--state <state>", "active, suspended or removed", oneOf("active", "suspended", "removed"))
    .option("--profile <profile>", "agent, gateway or operator", oneOf("agent", "gateway", "operator"))
    .option("--label <label>", "key=value, or a key")
    .option(
      "--search <text>",
      "part of id, name, label or owner; or the beginning of a serial, or of the fingerprint of a key or certificate",
      searchText,
    )
    .option("--sort <order>", `${identitySorts.join(", ")} (default: id)`, oneOf(...identitySorts))
    .action(
      withClient<ListOptions>(terminal, async ({ client, options, json }) => {
        const { expiresBefore, state, profile, label, search, sort } = options;
        const query = { expiresBefore, state, profile, label, q: search, sort };
        if (options.csv === true) return printCsv(terminal, client, "/v1/identities", query);
        const items = await client.list<IdentityAnswer>("/v1/identities", query);
        const rows = items.map((item) => [
          item.id,
          item.profile,
          item.state,
          item.leaf?.state ?? "-",
          moment(item.leaf?.notAfter),
          moment(item.lastSeen),
        ]);
        terminal.out(
          json
            ? asJson(items)
            : asTable(["ID", "PROFILE", "STATE", "LEAF", "ENDS", "LAST SEEN"], rows, "No identity matches."),
        );
      }),
    );
}

function addStates(group: Command, terminal: Terminal): void {
  const texts: Record<"suspend" | "resume" | "remove", CommandText> = {
    suspend: {
      usage: "suspend <id>",
      summary: "refuse all its requests until it is resumed; its certificate stays valid elsewhere",
      examples: ["newleaf identity suspend gateway-1"],
    },
    resume: { usage: "resume <id>", summary: "end a suspension", examples: ["newleaf identity resume gateway-1"] },
    remove: {
      usage: "remove <id>",
      summary: "revoke its certificates and take it out of the inventory",
      examples: ["newleaf identity remove gateway-1", "newleaf identity remove gateway-1 --yes"],
    },
  };
  harmfulCommand(group, texts.suspend).action(
    withClient(terminal, async ({ client, confirm, json }, id = "") => {
      if (!(await confirm(`Suspend ${id}? Its renewals and reports are refused until it is resumed.`))) return;
      const answer = await client.post(`${itself(id)}/suspension`);
      terminal.out(json ? asJson(answer) : `${id} is suspended.\n`);
    }),
  );
  readingCommand(group, texts.resume).action(
    withClient(terminal, async ({ client, json }, id = "") => {
      const answer = await client.remove(`${itself(id)}/suspension`);
      terminal.out(json ? asJson(answer) : `${id} is active.\n`);
    }),
  );
  harmfulCommand(group, texts.remove).action(
    withClient(terminal, async ({ client, confirm, json }, id = "") => {
      if (!(await confirm(`Remove ${id} and revoke every certificate it holds?`))) return;
      await client.remove(itself(id));
      terminal.out(json ? asJson({ id, state: "removed" }) : `${id} is removed; what it held is revoked.\n`);
    }),
  );
}

function addGrantRecovery(group: Command, terminal: Terminal): void {
  readingCommand(group, {
    usage: "grant-recovery <id>",
    summary: "let a host whose leaf has expired enroll once more with a key it had",
    examples: ["newleaf identity grant-recovery gateway-1 --ttl 24h"],
  })
    .option("--ttl <duration>", "how long the grant is open", durationText, "24h")
    .action(
      withClient<{ readonly ttl: string }>(terminal, async ({ client, options, json }, id = "") => {
        const grant = await client.post<{ readonly expiresAt: string }>(`${itself(id)}/recovery-grants`, {
          ttl: options.ttl,
        });
        terminal.out(json ? asJson(grant) : `${id} may recover once, until ${moment(grant.expiresAt)}.\n`);
      }),
    );
}

function entryOptions(command: Command): Command {
  return command
    .option("--dns <name>", "DNS name (may be repeated)", collect)
    .option("--ip <address>", "IP address (may be repeated)", collect)
    .option("--uri <uri>", "URI, such as spiffe://… (may be repeated)", collect)
    .option("--email <address>", "e-mail address (may be repeated)", collect)
    .option("--key <fingerprint>", "approved key, sha256:HEX over its SubjectPublicKeyInfo (may be repeated)", collect)
    .option("--key-from <csr>", "approved key, from a certificate request file, PEM or DER (may be repeated)", collect)
    .option("--label <key=value>", "label (may be repeated)", collect)
    .option("--owner <text>", "who answers for it: a person, a team, an address")
    .option("--notes <text>", "a line about it");
}

async function keysOf({ key, keyFrom }: EntryOptions): Promise<string[] | undefined> {
  if (key === undefined && keyFrom === undefined) return undefined;
  const keys = given(key ?? []);
  for (const file of keyFrom ?? []) {
    let bytes: Buffer;
    try {
      bytes = await readFile(file);
    } catch (error) {
      throw new UsageError(`--key-from ${file} cannot be read (${systemCause(error)})`, {
        cause: error,
      });
    }
    keys.push(readCsr(bytes).key);
  }
  return keys;
}

function labelsOf({ label }: EntryOptions): Record<string, string> | undefined {
  if (label === undefined) return undefined;
  return Object.fromEntries(
    given(label).map((text) => {
      const at = text.indexOf("=");
      if (at < 1) throw new UsageError(`--label ${text} must be written as key=value`);
      return [text.slice(0, at), text.slice(at + 1)] as const;
    }),
  );
}

/** One empty value means: none. */
function given(values: readonly string[]): string[] {
  return values.filter((value) => value !== "");
}

function optional<T>(name: string, value: T | undefined): Record<string, T> {
  return value === undefined ? {} : { [name]: value };
}

function checkProfile(value: string): string {
  if (!["agent", "gateway", "operator"].includes(value)) throw new InvalidArgumentError("agent or gateway is needed");
  return value;
}

function warn(terminal: Terminal, identity: IdentityAnswer): void {
  for (const warning of identity.warnings ?? []) terminal.err(`warning: ${warning}\n`);
}
