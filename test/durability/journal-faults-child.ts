/**
 * A process whose journal fails when files in FAULTS say so (failing-sync.c). Does one act after each line of stdin and says on stdout
 * what became of it. argv: database file, directory of the journal. A line: the act's name, then the faults that are to hold.
 */
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { openSqliteStore } from "../../server/store/sqlite/store.ts";
import * as f from "../unit/server/store/fixture.ts";

const store = await openSqliteStore({ path: process.argv[2] ?? "", journal: process.argv[3] ?? null });
for await (const line of createInterface({ input: process.stdin })) {
  const [act = "", ...faults] = line.split(" ");
  for (const fault of ["sync", "cut"]) {
    const flag = join(process.env["FAULTS"] ?? "", fault);
    if (faults.includes(fault)) writeFileSync(flag, "");
    else rmSync(flag, { force: true });
  }
  const done = act === "ping" ? store.ping() : f.addIdentity(store, act);
  const said = await done.then(
    () => "done",
    (error: unknown) => String(error),
  );
  process.stdout.write(`${act} ${said}\n`);
}
await store[Symbol.asyncDispose]();
