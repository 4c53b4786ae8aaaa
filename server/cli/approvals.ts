/** `newleaf approvals …` */
import type { Command } from "commander";
import { allNames } from "@newleaf/shared/names";
import { AppError } from "@newleaf/shared/problems";
import {
  commandGroup,
  fingerprintText,
  harmfulCommand,
  listingCommand,
  oneOf,
  printCsv,
  readingCommand,
  withClient,
} from "./admin-command.ts";
import type { ApprovalAnswer, IdentityAnswer } from "./answers.ts";
import { asJson, asRecord, asTable, moment, printable } from "./output.ts";
import type { Terminal } from "./terminal.ts";

const itself = (id: string): string => `/v1/approvals/${encodeURIComponent(id)}`;

export function addApprovalCommands(program: Command, terminal: Terminal): void {
  const group = commandGroup(program, "approvals", "enrollments that wait for a decision");
  listingCommand(group, {
    usage: "list",
    summary: "requests that wait",
    examples: ["newleaf approvals list", "newleaf approvals list --state issued"],
  })
    .option("--state <state>", "pending, issued or denied", oneOf("pending", "issued", "denied"), "pending")
    .action(
      withClient<{ readonly state: string }>(terminal, async ({ client, options, json }) => {
        const query = { state: options.state };
        if (options.csv === true) return printCsv(terminal, client, "/v1/approvals", query);
        const items = await client.list<ApprovalAnswer>("/v1/approvals", query);
        const rows = items.map((item) => [
          item.id,
          item.claim ?? "-",
          item.names.join(" ") || "-",
          item.address,
          moment(item.createdAt),
          item.approvals.length === 0 ? "-" : `${item.approvals.length} of ${item.needed ?? 1}, for ${item.identity}`,
        ]);
        terminal.out(
          json
            ? asJson(items)
            : asTable(["REQUEST", "CLAIMS TO BE", "ASKS FOR", "FROM", "SINCE", "YES"], rows, "Nothing waits."),
        );
      }),
    );
  readingCommand(group, {
    usage: "show <request>",
    summary: "one request, with the fingerprint of its key",
    examples: ["newleaf approvals show 5b0e7a…"],
  }).action(
    withClient(terminal, async ({ client, json }, id = "") => {
      const request = await client.get<ApprovalAnswer>(itself(id));
      terminal.out(json ? asJson(request) : asRecord(request));
    }),
  );
  addApprove(group, terminal);
  harmfulCommand(group, {
    usage: "deny <request>",
    summary: "refuse a request for good",
    examples: ["newleaf approvals deny 5b0e7a…"],
  }).action(
    withClient(terminal, async ({ client, confirm, json }, id = "") => {
      const request = await client.get<ApprovalAnswer>(itself(id));
      if (
        !(await confirm(`Deny the request of ${printable(request.claim ?? "an unnamed host")} at ${request.address}?`))
      )
        return;
      const answer = await client.post(`${itself(id)}/decision`, {
        decision: "deny",
        fingerprint: request.fingerprint,
      });
      terminal.out(json ? asJson(answer) : "Denied.\n");
    }),
  );
}

function addApprove(group: Command, terminal: Terminal): void {
  harmfulCommand(group, {
    usage: "approve <request> <identity>",
    summary: "let the holder of this key be this identity",
    examples: [
      "newleaf approvals approve 5b0e7a… gateway-1",
      "newleaf approvals approve 5b0e7a… gateway-1 --fingerprint sha256:3b7c… --yes",
    ],
    notes:
      "Compare the fingerprint with what `newleaf-agent key` prints on the host. Whoever holds that key becomes the identity.",
  })
    .option("--fingerprint <fingerprint>", "approve only if the request's key has this fingerprint", fingerprintText)
    .action(
      withClient<{ readonly fingerprint?: string }>(
        terminal,
        async ({ client, options, confirm, json }, id = "", identityId = "") => {
          const request = await client.get<ApprovalAnswer>(itself(id));
          const identity = await client.get<IdentityAnswer>(`/v1/identities/${encodeURIComponent(identityId)}`);
          if (options.fingerprint !== undefined && options.fingerprint !== request.fingerprint) {
            throw new AppError(
              "conflict",
              `The request's key is ${request.fingerprint}, not ${options.fingerprint}. It is another host's, or somebody stands between; nothing was decided`,
            );
          }
          terminal.err(decisionText(request, identity));
          if (!(await confirm(`Approve this key as ${identity.id}?`))) return;
          const decision = { decision: "approve", identity: identity.id, fingerprint: request.fingerprint };
          const answer = await client.post<ApprovalAnswer>(`${itself(id)}/decision`, decision);
          const done =
            answer.state === "pending"
              ? `Your yes is noted. ${identity.id} needs one of another operator too: newleaf approvals approve ${answer.id} ${identity.id}\n`
              : `Approved. ${identity.id} gets its certificate when it asks the next time.\n`;
          terminal.out(json ? asJson(answer) : done);
        },
      ),
    );
}

/** What the operator decides on: identity, names, fingerprint. */
function decisionText(request: ApprovalAnswer, identity: IdentityAnswer): string {
  const lines: readonly (readonly [string, string])[] = [
    ["identity", `${identity.id} (${identity.profile}, ${identity.state})`],
    ["names", allNames(identity.names).join(", ") || "none"],
    ["fingerprint", request.fingerprint],
    ["claims to be", request.claim ?? "-"],
    ["asks for", request.names.join(", ") || "-"],
    [
      "said yes",
      request.approvals.map(({ by, how, at }) => `${by} (${how}, ${moment(at)})`).join(", ") || "nobody yet",
    ],
    ["from", `${request.address}, ${moment(request.createdAt)}`],
    [
      "holds now",
      identity.leaf === null
        ? "no certificate"
        : `${identity.leaf.serial} (${identity.leaf.state}), ends ${moment(identity.leaf.notAfter)}`,
    ],
  ];
  return lines.map(([name, value]) => `  ${name.padEnd(14)}${printable(value)}\n`).join("");
}
