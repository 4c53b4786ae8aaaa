import { describe, it } from "node:test";
import { openSqliteStore } from "../../../../server/store/sqlite/store.ts";
import { auditedWrites } from "./audited-writes.ts";
import { storeContract } from "./contract.ts";
import { scratch } from "./fixture.ts";

describe("the store on SQLite", () => {
  const audited = auditedWrites();
  storeContract(async () => {
    const home = await scratch();
    const opened = await openSqliteStore({ path: home.path, create: true });
    const store = audited.watch(opened);
    return {
      ...store,
      async [Symbol.asyncDispose]() {
        await opened[Symbol.asyncDispose]();
        await home[Symbol.asyncDispose]();
      },
    };
  });

  it("puts every kind of write into the audit log", () => audited.check());
});
