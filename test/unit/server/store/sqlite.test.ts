import { describe } from "node:test";
import { openSqliteStore } from "../../../../server/store/sqlite/store.ts";
import { storeContract } from "./contract.ts";
import { scratch } from "./fixture.ts";

describe("the store on SQLite", () => {
  storeContract(async () => {
    const home = await scratch();
    const store = await openSqliteStore({ path: home.path, create: true });
    return {
      ...store,
      async [Symbol.asyncDispose]() {
        await store[Symbol.asyncDispose]();
        await home[Symbol.asyncDispose]();
      },
    };
  });
});
