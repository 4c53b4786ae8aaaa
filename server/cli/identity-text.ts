/** One identity on a terminal: what is wrong first, then issued, installed and served side by side, then everything. */
import type { IdentityAnswer } from "./answers.ts";
import { asRecord, asTable, moment, printable } from "./output.ts";

/** Of a fingerprint in a table: enough to tell two apart; the record below has them whole. */
const shownDigits = 12;

export function identityText(identity: IdentityAnswer): string {
  const { wrong, listeners, leaf, reportedAt, ...rest } = identity;
  const short = (fingerprint: string | null) => fingerprint?.slice(7, 7 + shownDigits) ?? "-";
  const rows = listeners.map((one) => [
    `${one.name} ${one.address}`,
    short(one.issued),
    short(one.installed),
    short(one.served),
    one.state,
    moment(one.servedAt),
  ]);
  const about = [
    leaf === null ? "" : `Issued ${moment(leaf.issuedAt)}, ends ${moment(leaf.notAfter)}.`,
    reportedAt === null ? "" : `Reported ${moment(reportedAt)}.`,
  ].filter((text) => text !== "");
  return [
    wrong.map((sentence) => `! ${printable(sentence)}\n`).join(""),
    rows.length === 0
      ? ""
      : asTable(["LISTENER", "ISSUED", "INSTALLED", "SERVED", "WHICH IS", "SEEN"], rows, "Nothing was reported."),
    about.length === 0 ? "" : `${about.join(" ")}\n`,
    asRecord({ ...rest, leaf, reportedAt }),
  ]
    .filter((part) => part !== "")
    .join("\n");
}
