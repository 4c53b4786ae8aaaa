import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { NewCertificate } from "../../../../../server/store/certificates.ts";
import type { Page, Store } from "../../../../../server/store/store.ts";
import * as f from "../fixture.ts";
import { type OpenStore, refused } from "./suite.ts";

export function listContract(open: OpenStore): void {
  describe("finding, listing and counting certificates", () => {
    let store: Store;
    let first: NewCertificate;
    let second: NewCertificate;
    let third: NewCertificate;
    let short: NewCertificate;
    let own: NewCertificate;
    before(async () => {
      store = await open();
      await store.found(f.foundation());
      // gateway-1: superseded, current, pending. gateway-2: one current leaf of a day. The service's own. gateway-3: revoked.
      first = await f.enrolled(store, "gateway-1");
      second = f.leaf("gateway-1", { kind: "renewal", lineage: first.lineage, generation: 2, parent: first.serial });
      await store.recordIssuance({ ...f.renewal(first), certificate: second });
      await f.promote(store, second.serial);
      const last = f.renewal(second, { issuedAt: f.t0 + f.day });
      third = last.certificate;
      await store.recordIssuance(last);
      short = await f.enrolled(store, "gateway-2", {
        notAfter: f.t0 + f.day,
        renewalEnd: f.t0 + f.day / 2,
        profile: "agent",
      });
      own = f.leaf(f.serviceId, {
        profile: "service",
        lineage: null,
        generation: 0,
        state: "current",
        notAfter: f.t0 + 9,
      });
      await store.recordIssuance({
        ...f.enrollment(own),
        basis: { identity: { id: f.serviceId, revision: 1 }, issuerId: f.issuerId },
      });
      await f.revoke(store, await f.enrolled(store, "gateway-3"), "superseded");
    });
    after(() => store[Symbol.asyncDispose]());

    const serials = (rows: readonly { readonly serial: string }[]) => rows.map((row) => row.serial);
    const list = async (filter: object) =>
      serials((await store.listCertificates({ limit: 100, now: f.t0, ...filter })).items);

    it("finds the successor, the last, the pending by key and the usable", async () => {
      assert.equal((await store.findSuccessor(first.serial))?.serial, second.serial);
      assert.equal((await store.findSuccessor(second.serial))?.serial, third.serial);
      assert.equal(await store.findSuccessor(third.serial), null);
      assert.equal((await store.findLast("gateway-1"))?.serial, third.serial);
      assert.equal(await store.findLast("nobody"), null);
      assert.equal((await store.findPendingByKey("gateway-1", third.key))?.serial, third.serial);
      assert.equal(await store.findPendingByKey("gateway-1", second.key), null, "already used");
      assert.equal(await store.findPendingByKey("gateway-2", third.key), null, "another's key");
      assert.deepEqual(serials(await store.listUsable("gateway-1", f.t0)), serials([third, second, first]));
      assert.deepEqual(await store.listUsable("gateway-3", f.t0), []);
      assert.equal((await store.listUsable("gateway-2", short.notAfter)).length, 1, "valid to its last second");
      assert.deepEqual(await store.listUsable("gateway-2", short.notAfter + 1), []);
    });

    it("lists by every filter, newest first", async () => {
      assert.deepEqual(await list({ identity: "gateway-1" }), serials([third, second, first]));
      assert.deepEqual(await list({ lineage: first.lineage }), serials([third, second, first]));
      assert.deepEqual(await list({ key: second.key }), [second.serial]);
      assert.deepEqual(await list({ key: f.newKey() }), []);
      assert.deepEqual(await list({ state: "pending" }), [third.serial]);
      assert.deepEqual(await list({ state: "current" }), serials([own, short, second]));
      assert.deepEqual(await list({ state: "revoked", identity: "gateway-3" }).then((rows) => rows.length), 1);
      assert.deepEqual(await list({ profile: "agent" }), [short.serial]);
      assert.deepEqual(await list({ q: "WAY-2" }), [short.serial]);
      assert.deepEqual(await list({ q: third.serial.slice(0, 12).toUpperCase() }), [third.serial]);
      assert.deepEqual(await list({ q: "%" }), []);
      assert.equal((await list({})).length, 6);
    });

    it("tells expired from the clock; a revoked one stays revoked", async () => {
      const now = f.t0 + 40 * f.day;
      assert.deepEqual(await list({ state: "expired", now: short.notAfter }), [own.serial]);
      const lastEndedFirst = serials([third, second, first, short, own]);
      assert.deepEqual(await list({ state: "expired", now }), lastEndedFirst);
      assert.deepEqual(await list({ state: "expired", now, sort: "notAfter" }), [
        ...serials([own, short, first, second, third]),
      ]);
      assert.deepEqual(await list({ state: "current", now }), []);
      assert.equal((await list({ state: "revoked", now })).length, 1);
    });

    it("lists what is in force and expires soon, the most urgent first", async () => {
      const all = await list({ expiresBefore: f.t0 + 60 * f.day });
      assert.deepEqual(all, serials([own, short, third]), "one an identity: the newest that was not replaced");
      assert.deepEqual(await list({ expiresBefore: short.notAfter }), [own.serial]);
      const one = await store.listCertificates({ limit: 1, now: f.t0, expiresBefore: f.t0 + 60 * f.day });
      const next = await store.listCertificates({
        limit: 1,
        now: f.t0,
        expiresBefore: f.t0 + 60 * f.day,
        cursor: one.nextCursor ?? assert.fail(),
      });
      assert.deepEqual(serials(next.items), [short.serial]);
    });

    it("gives the metrics what is in force, overdue and unconfirmed, without the service's own", async () => {
      assert.deepEqual(await store.listInForce(10), [
        {
          identity: "gateway-2",
          profile: "agent",
          serial: short.serial,
          fingerprint: short.fingerprint,
          notAfter: short.notAfter,
        },
        {
          identity: "gateway-1",
          profile: "gateway",
          serial: third.serial,
          fingerprint: third.fingerprint,
          notAfter: third.notAfter,
        },
      ]);
      assert.deepEqual(serials(await store.listInForce(1)), [short.serial]);
      assert.equal(await store.countInForceBefore(f.t0 + 2 * f.day, f.t0), 1);
      assert.equal(await store.countInForceBefore(f.t0 + 60 * f.day, f.t0), 2);
      assert.equal(
        await store.countInForceBefore(f.t0 + 60 * f.day, short.notAfter + 1),
        1,
        "what has expired expires no more",
      );
      assert.equal(await store.countOverdue(short.renewalEnd), 0);
      assert.equal(await store.countOverdue(short.renewalEnd + 1), 1);
      assert.equal(await store.countUnconfirmed(third.issuedAt), 0);
      assert.equal(await store.countUnconfirmed(third.issuedAt + 1), 1);
    });

    it("counts by state and profile exactly as a listing would", async () => {
      for (const now of [f.t0, short.notAfter, short.notAfter + 1, f.t0 + 40 * f.day]) {
        const counted = (await store.countCertificates(now)).map((row) => [row.state, row.profile, row.count]);
        const expected: unknown[] = [];
        for (const state of ["pending", "current", "superseded", "replaced", "held", "revoked", "expired"] as const) {
          for (const profile of ["agent", "gateway", "operator", "service"] as const) {
            const { length } = await list({ state, profile, now });
            if (length > 0) expected.push([state, profile, length]);
          }
        }
        const order = (rows: readonly unknown[]) => rows.map((row) => JSON.stringify(row)).toSorted();
        assert.deepEqual(order(counted), order(expected));
      }
    });

    it("pages without repeating or skipping while rows come and go", async () => {
      const seen: string[] = [];
      let cursor: string | null = null;
      let round = 0;
      do {
        const page: Page<{ serial: string }> = await store.listCertificates({
          limit: 2,
          now: f.t0,
          identity: "gateway-1",
          ...(cursor === null ? {} : { cursor }),
        });
        seen.push(...serials(page.items));
        cursor = page.nextCursor;
        if (round++ === 0) {
          const anew = f.leaf("gateway-1");
          await store.recordIssuance(f.enrollment(anew));
        }
      } while (cursor !== null);
      assert.deepEqual(seen, serials([third, second, first]));
    });

    it("refuses a limit out of range and a cursor that is not its own with request-invalid", async () => {
      for (const limit of [0, 1001, 1.5, Number.NaN]) {
        await assert.rejects(store.listCertificates({ limit, now: f.t0 }), refused("request-invalid"));
      }
      const foreign = (await store.listIdentities({ limit: 1, now: f.t0 })).nextCursor ?? assert.fail();
      const encoded = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
      for (const cursor of [
        "",
        "%%",
        "AAAA",
        "a".repeat(5000),
        encoded({}),
        encoded([1, 2, 3]),
        encoded([null]),
        encoded([1.5]),
      ]) {
        await assert.rejects(store.listCertificates({ limit: 1, now: f.t0, cursor }), refused("request-invalid"));
      }
      await assert.rejects(store.listTokens({ limit: 1, cursor: encoded([1, 1]) }), refused("request-invalid"));
      await assert.rejects(store.listAudit({ limit: 1, cursor: foreign }), refused("request-invalid"));
    });
  });
}
