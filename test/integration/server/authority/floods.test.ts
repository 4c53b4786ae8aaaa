/** What one caller can make grow, and how far. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { AppError } from "@newleaf/shared/problems";
import { call, csrFor, newKey, renew, settled, use } from "../../../support/agent-client.ts";
import { startService, type TestService } from "../../../support/service.ts";

let service: TestService;

async function auditRows(): Promise<number> {
  const { store } = service.server.authority;
  let rows = 0;
  for (;;) {
    const page = await store.readAuditChain(rows, 5_000);
    rows += page.length;
    if (page.length < 5_000) return rows;
  }
}

function codeOf(error: unknown): string {
  return error instanceof AppError ? error.code : String(error);
}

describe("floods", () => {
  before(async () => {
    service = await startService();
  });
  after(() => service[Symbol.asyncDispose]());

  it("a stranger who asks with ever new keys is audited until his requests are full, then counted", async () => {
    const ask = async (): Promise<string> => {
      const body = { csr: csrFor(await newKey()) };
      return call(service, "enrollment", "POST", "/v1/enrollments", { body }).then(() => "pending", codeOf);
    };
    for (let asked = 0; asked < 50; asked += 1) assert.equal(await ask(), "pending");
    const full = await auditRows();
    for (let asked = 0; asked < 20; asked += 1) assert.equal(await ask(), "rate-limited");
    assert.equal(await auditRows(), full + 1);
  });

  it("the holder of a leaf of an ended lineage is audited once", async () => {
    const old = await settled(service, "ended");
    const fresh = await settled(service, "ended");
    await assert.rejects(renew(service, old), { code: "lineage-locked" });
    const once = await auditRows();
    for (let asked = 0; asked < 10; asked += 1) await assert.rejects(renew(service, old), { code: "lineage-locked" });
    assert.equal(await auditRows(), once);
    await use(service, fresh);
  });

  it("the holder of a leaf who asks for ever new names is audited a hundred times within the hour", async () => {
    const host = await settled(service, "namedropper");
    const before = await auditRows();
    for (let asked = 0; asked < 120; asked += 1) {
      await assert.rejects(renew(service, host, { dns: [`n${asked}.claw.internal`] }), { code: "names-not-permitted" });
    }
    assert.equal(await auditRows(), before + 100);
  });

  it("one leaf gets so many certificates within the hour and no more, and again in the next", async () => {
    const host = await settled(service, "greedy");
    const codes: string[] = [];
    for (let asked = 0; asked < 65; asked += 1) codes.push(await renew(service, host).then(() => "issued", codeOf));
    assert.deepEqual([...new Set(codes)], ["issued", "rate-limited"]);
    assert.equal(codes.filter((code) => code === "issued").length, 60);
    service.clock.advance(3_600_000);
    await renew(service, host);
  });
});
