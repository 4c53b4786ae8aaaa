/**
 * A process whose files may not grow beyond a limit. Issues until the store refuses, shows that it goes on refusing and reading, and
 * when told that there is room again, issues once more. argv: database file. Answers one JSON object a line.
 */
import { createInterface } from "node:readline/promises";
import { openSqliteStore } from "../../server/store/sqlite/store.ts";
import * as f from "../unit/server/store/fixture.ts";

await using store = await openSqliteStore({ path: process.argv[2] ?? "" });
const acknowledged: string[] = [];
const refused: string[] = [];
const messages = new Set<string>();

const issueSome = async (): Promise<boolean> => {
  const records = Array.from({ length: 20 }, () => f.enrollment(f.leaf("gateway-1")));
  const outcomes = await Promise.allSettled(records.map((record) => store.recordIssuance(record)));
  for (const [index, outcome] of outcomes.entries()) {
    const serial = records[index]?.certificate.serial ?? "";
    if (outcome.status === "fulfilled") acknowledged.push(serial);
    else {
      refused.push(serial);
      messages.add(String(outcome.reason));
    }
  }
  return outcomes.every((outcome) => outcome.status === "fulfilled");
};
const say = (more: object) => console.log(JSON.stringify({ ...more, acknowledged, refused, messages: [...messages] }));

// A failed commit makes the store empty its log into the database file, which helps until that is at the limit too.
for (let failures = 0; failures < 5;) failures = (await issueSome()) ? 0 : failures + 1;
const readable = (await store.findCertificate(acknowledged[0] ?? ""))?.state;
say({ readable });

const lines = createInterface({ input: process.stdin });
for await (const _ of lines) break;
say({ recovered: await issueSome() });
