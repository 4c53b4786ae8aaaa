/**
 * A process that issues through the store until it is killed, and says on stdout what was acknowledged: `issued SERIAL`,
 * `used SERIAL`, one a line, written at once. Goes on from whatever an earlier run left. argv: database file, directory of the
 * journal if there is to be one.
 */
import { writeSync } from "node:fs";
import { openSqliteStore } from "../../server/store/sqlite/store.ts";
import * as f from "../unit/server/store/fixture.ts";

const identities = 8;
const store = await openSqliteStore({ path: process.argv[2] ?? "", create: true, journal: process.argv[3] ?? null });
if ((await store.currentBundle()) === null) await store.found(f.foundation());
writeSync(1, "ready\n");
await Promise.all(Array.from({ length: identities }, (_, index) => issueForEver(`gateway-${index}`)));

async function issueForEver(id: string): Promise<never> {
  if ((await store.findIdentity(id)) === null) await f.addIdentity(store, id);
  while (true) {
    const last = await store.findLast(id);
    if (last?.state === "pending") {
      await f.promote(store, last.serial);
      writeSync(1, `used ${last.serial}\n`);
      continue;
    }
    const record = last === null ? f.enrollment(f.leaf(id)) : f.renewal({ ...last, state: "current" });
    await store.recordIssuance(record);
    writeSync(1, `issued ${record.certificate.serial}\n`);
  }
}
