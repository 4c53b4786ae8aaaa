import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { NewCertificate } from "../../../../../server/store/certificates.ts";
import { type IdentityFilter, identitySorts } from "../../../../../server/store/identities.ts";
import type { Store } from "../../../../../server/store/store.ts";
import * as f from "../fixture.ts";
import { type OpenStore, refused } from "./suite.ts";

/** More than the store looks up one by one: a search that finds them goes through the list instead. */
const many = 1100;

export function searchContract(open: OpenStore): void {
  describe("searching and sorting", () => {
    let store: Store;
    let leaf: NewCertificate;
    let other: NewCertificate;
    const key = f.newKey();
    before(async () => {
      store = await open();
      await store.found(f.foundation());
      leaf = await f.enrolled(store, "alpha-1");
      other = await f.enrolled(store, "beta-1", { notAfter: f.t0 + 3 * f.day });
      await f.addIdentity(store, "gamma-1", {
        names: { dns: ["needle.claw.internal"], ip: ["10.0.1.42"], uri: ["spiffe://claw/Needle"], email: [] },
        labels: { site: "Zürich", "odd=key": "a=b" },
        keys: [key],
        owner: "Night Shift <night@claw>",
        notes: "not searched: haystack",
      });
      const crowd = Array.from({ length: many }, (_, index) => ({
        kind: "add" as const,
        entry: f.entry(`crowd-${String(index).padStart(4, "0")}`, { labels: { site: "crowd", nr: String(index) } }),
      }));
      await store.changeInventory(crowd, f.t0, [f.audit("inventory.changed")]);
      await store.recordSeen("alpha-1", f.t0 + 7);
      await store.recordSeen("gamma-1", f.t0 + 5);
      await f.enrolled(store, "crowd-leaf");
    });
    after(() => store[Symbol.asyncDispose]());

    const ids = async (filter: Partial<IdentityFilter>, limit = 1000) =>
      (await store.listIdentities({ limit, now: f.t0, ...filter })).items.map(({ id }) => id);
    const serials = async (q: string) =>
      (await store.listCertificates({ limit: 1000, now: f.t0, q })).items.map(({ serial }) => serial);

    it("finds an identity by any part of id, name, label or owner, in any case", async () => {
      for (const q of [
        "amma-1",
        "GAMMA",
        "needle.claw",
        "0.1.4",
        "spiffe://claw/needle",
        "site=zür",
        "odd=key=a=b",
        "t shift",
      ])
        assert.deepEqual(await ids({ q }), ["gamma-1"], q);
      assert.deepEqual(await ids({ q: "a-1" }), ["alpha-1", "beta-1", "gamma-1"]);
      for (const q of ["haystack", "nobody", "%", "*", '"', "needle AND claw", "gamma-1 needle"])
        assert.deepEqual(await ids({ q }), [], q);
      assert.deepEqual(await ids({ q: "ö" }), [], "short and not there");
      assert.deepEqual(await ids({ q: "ü" }), ["gamma-1"], "shorter than what is indexed");
    });

    it("finds as exactly when so many match that it goes through the list", async () => {
      const all = await ids({ q: "crowd", limit: 1000 });
      assert.equal(all.length, 1000);
      assert.deepEqual(all.slice(0, 2), ["crowd-0000", "crowd-0001"]);
      assert.deepEqual(await ids({ q: "crowd", label: "nr=7" }), ["crowd-0007"]);
      assert.deepEqual(await ids({ q: "crowd", sort: "lastSeen", label: "nr=1099" }), ["crowd-1099"]);
      assert.equal((await ids({ q: "crowd", sort: "-id" }))[0], "crowd-leaf");
      assert.deepEqual((await ids({ label: "site=crowd", sort: "lastSeen" })).length, 1000);
    });

    it("follows a change of what is searched, and forgets what is gone", async () => {
      await f.addIdentity(store, "moves", { names: { dns: ["before.claw"], ip: [], uri: [], email: [] } });
      const entry = f.entry("moves", {
        names: { dns: ["afterwards.claw"], ip: [], uri: [], email: [] },
        labels: { x: "y" },
      });
      await store.changeInventory([{ kind: "change", entry, basisRevision: 1 }], f.t0, []);
      assert.deepEqual([await ids({ q: "before" }), await ids({ q: "afterwards" })], [[], ["moves"]]);
      assert.deepEqual(await ids({ label: "x" }), ["moves"]);
      await store.changeInventory([{ kind: "remove", id: "moves", basisRevision: 2 }], f.t0, []);
      assert.deepEqual([await ids({ q: "afterwards" }), await ids({ label: "x=y" })], [[], []]);
    });

    it("finds by the beginning of a serial or fingerprint, as any tool prints it", async () => {
      const colons = (hex: string) => hex.toUpperCase().match(/../g)?.join(":") ?? "";
      const digits = leaf.fingerprint.slice("sha256:".length);
      for (const q of [
        leaf.serial,
        leaf.serial.slice(0, 9),
        `0x${leaf.serial}`,
        colons(leaf.serial),
        `00:${colons(leaf.serial)}`,
      ]) {
        assert.deepEqual(await serials(q), [leaf.serial], q);
        assert.deepEqual(await ids({ q }), ["alpha-1"], q);
      }
      for (const q of [
        leaf.fingerprint,
        digits.slice(0, 9),
        `SHA256:${digits.slice(0, 12)}`,
        colons(digits),
        `sha256 Fingerprint=${colons(digits)}`,
        leaf.key,
        leaf.key.slice(0, 20),
      ]) {
        assert.deepEqual(await serials(q), [leaf.serial], q);
        assert.deepEqual(await ids({ q }), ["alpha-1"], q);
      }
      assert.deepEqual(await ids({ q: key.slice(0, 24) }), ["gamma-1"], "approved, nothing issued for it");
      assert.deepEqual(await serials(`sha256:${leaf.serial}`), [], "said to be a fingerprint");
      assert.deepEqual(
        await serials(`${digits.slice(0, 11)}${digits[11] === "0" ? "1" : "0"}`),
        [],
        "the twelfth digit counts, too",
      );
      assert.deepEqual(await serials("lpha-"), [leaf.serial]);
    });

    it("lists certificates of identities with a label", async () => {
      await f.addIdentity(store, "labelled", { labels: { rack: "7" } });
      const mine = f.leaf("labelled");
      await store.recordIssuance(f.enrollment(mine));
      const listed = async (label: string) =>
        (await store.listCertificates({ limit: 9, now: f.t0, label })).items.map(({ serial }) => serial);
      assert.deepEqual(
        [await listed("rack=7"), await listed("rack"), await listed("rack=8")],
        [[mine.serial], [mine.serial], []],
      );
      assert.deepEqual(await listed("site=crowd"), [], "many identities, none with a certificate");
    });

    it("sorts by end and by last seen, those without one last, in pages of any size", async () => {
      assert.deepEqual((await ids({ sort: "notAfter" })).slice(0, 2), ["beta-1", "alpha-1"]);
      assert.deepEqual((await ids({ sort: "lastSeen" })).slice(0, 2), ["gamma-1", "alpha-1"]);
      assert.deepEqual((await ids({ sort: "-lastSeen" })).slice(0, 3), ["alpha-1", "gamma-1", f.adminId]);
      assert.deepEqual(await ids({ expiresBefore: f.t0 + 60 * f.day, q: "a-1" }), ["beta-1", "alpha-1"]);
      assert.deepEqual(await ids({ expiresBefore: f.t0 + 60 * f.day, q: "a-1", sort: "id" }), ["alpha-1", "beta-1"]);
      assert.equal((await ids({ sort: "notAfter" }, 5)).length, 5, "three with a leaf, and two of the others");
      for (const sort of identitySorts) {
        const whole = await ids({ sort, q: "a-1" });
        assert.equal(whole.length, 3, sort);
        for (const limit of [1, 2, 3]) {
          const walked: string[] = [];
          for (let cursor: string | null | undefined; cursor !== null;) {
            const page: { items: readonly { id: string }[]; nextCursor: string | null } = await store.listIdentities({
              limit,
              now: f.t0,
              sort,
              q: "a-1",
              ...(cursor === undefined ? {} : { cursor }),
            });
            walked.push(...page.items.map(({ id }) => id));
            cursor = page.nextCursor;
          }
          assert.deepEqual(walked, whole, `${sort} by ${limit}`);
        }
      }
    });

    it("refuses a cursor of another order", async () => {
      const { nextCursor } = await store.listCertificates({ limit: 1, now: f.t0, sort: "serial" });
      const request = { limit: 1, now: f.t0, cursor: nextCursor ?? assert.fail() };
      assert.equal((await store.listCertificates({ ...request, sort: "serial" })).items.length, 1);
      await assert.rejects(store.listCertificates({ ...request, sort: "-serial" }), refused("request-invalid"));
      await assert.rejects(store.listIdentities({ ...request, sort: "notAfter" }), refused("request-invalid"));
      const sorted = async (sort: "notAfter" | "-notAfter" | "serial") =>
        (await store.listCertificates({ limit: 9, now: f.t0, q: "a-1", sort })).items.map(({ serial }) => serial);
      assert.deepEqual(await sorted("notAfter"), [other.serial, leaf.serial]);
      assert.deepEqual(await sorted("-notAfter"), [leaf.serial, other.serial]);
      assert.deepEqual(await sorted("serial"), [leaf.serial, other.serial].toSorted());
    });
  });
}
