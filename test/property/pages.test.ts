/** A list is walked page by page while rows come, change and go: nothing that was there all the time is lost or repeated. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import * as fc from "fast-check";
import { certificateSorts } from "../../server/store/certificates.ts";
import { identitySorts } from "../../server/store/identities.ts";
import { openSqliteStore } from "../../server/store/sqlite/store.ts";
import type { Page, PageRequest, Store } from "../../server/store/store.ts";
import * as f from "../unit/server/store/fixture.ts";

interface List {
  readonly name: string;
  /** A row never changes its place in it. */
  readonly isFixed: boolean;
  read(store: Store, request: PageRequest): Promise<Page<string>>;
}

const now = f.t0 + f.day;

async function keysOf<Row>(page: Promise<Page<Row>>, key: (row: Row) => string): Promise<Page<string>> {
  const { items, nextCursor } = await page;
  return { items: items.map(key), nextCursor };
}

const lists: readonly List[] = [
  ...identitySorts.map((sort) => ({
    name: `identities by ${sort}`,
    isFixed: sort.endsWith("id"),
    read: (store: Store, request: PageRequest) =>
      keysOf(store.listIdentities({ ...request, sort, now }), ({ id }) => id),
  })),
  ...certificateSorts.map((sort) => ({
    name: `certificates by ${sort}`,
    isFixed: true,
    read: (store: Store, request: PageRequest) =>
      keysOf(store.listCertificates({ ...request, sort, now }), ({ serial }) => serial),
  })),
  {
    name: "certificates that expire",
    isFixed: true,
    read: (store, request) =>
      keysOf(store.listCertificates({ ...request, expiresBefore: f.t0 + 20 * f.day, now }), ({ serial }) => serial),
  },
  {
    name: "identities with a label",
    isFixed: true,
    read: (store, request) => keysOf(store.listIdentities({ ...request, label: "site=lab", now }), ({ id }) => id),
  },
  { name: "tokens", isFixed: true, read: (store, request) => keysOf(store.listTokens(request), ({ id }) => id) },
  { name: "lineages", isFixed: true, read: (store, request) => keysOf(store.listLineages(request), ({ id }) => id) },
  {
    name: "the audit log",
    isFixed: true,
    read: (store, request) => keysOf(store.listAudit(request), ({ seq }) => String(seq)),
  },
];

const disturbance = fc.record({
  act: fc.constantFrom("add", "enroll", "enroll", "remove", "revoke", "see", "suspend", "token"),
  pick: fc.nat({ max: 10_000 }),
  days: fc.integer({ min: 2, max: 40 }),
});
type Disturbance = typeof disturbance extends fc.Arbitrary<infer T> ? T : never;

describe("pages of a list that changes", () => {
  let home: f.Scratch;
  let store: Store;
  let run = 0;
  before(async () => {
    home = await f.scratch();
    store = await openSqliteStore({ path: home.path, create: true });
    await store.found(f.foundation());
    for (let index = 0; index < 24; index++) {
      await disturb({ act: index % 4 === 0 ? "add" : "enroll", pick: index, days: 2 + ((index * 7) % 38) }, new Set());
      await disturb({ act: "see", pick: index * 3, days: index }, new Set());
    }
  });
  after(async () => {
    await store[Symbol.asyncDispose]();
    await home[Symbol.asyncDispose]();
  });

  it("lose and repeat nothing that was there all the time, and keep its order", async () => {
    const walked = new Set<string>();
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...lists),
        fc.integer({ min: 1, max: 9 }),
        fc.array(fc.array(disturbance, { maxLength: 2 }), { maxLength: 12 }),
        async (list, limit, disturbances) => {
          const whole = await readAll(list);
          const touched = new Set<string>();
          const seen: string[] = [];
          let cursor: string | null = null;
          let turn = 0;
          do {
            const page: Page<string> = await list.read(store, { limit, ...(cursor === null ? {} : { cursor }) });
            assert.ok(page.items.length <= limit);
            seen.push(...page.items);
            cursor = page.nextCursor;
            for (const change of disturbances[turn] ?? []) await disturb(change, touched);
            turn += 1;
            assert.ok(turn < 2_000, `${list.name} does not end`);
          } while (cursor !== null);
          const left = new Set(await readAll(list));
          const stayed = whole.filter((key) => left.has(key) && !touched.has(key));
          const expected = new Set(stayed);
          assert.deepEqual(
            seen.filter((key) => expected.has(key)),
            stayed,
            list.name,
          );
          if (list.isFixed) assert.equal(new Set(seen).size, seen.length, `${list.name}: a row came twice`);
          walked.add(list.name);
        },
      ),
      { numRuns: 150, seed: 4 },
    );
    assert.equal(walked.size, lists.length, "every list was walked");
  });

  it("belong to the list and the order that gave their cursor", async () => {
    const cursors = new Map<string, string>();
    for (const list of lists) {
      const { nextCursor } = await list.read(store, { limit: 1 });
      assert.ok(nextCursor !== null, list.name);
      cursors.set(list.name, nextCursor);
    }
    const sorted = lists.filter(({ name }) => / by /.test(name));
    for (const list of sorted) {
      for (const other of sorted.filter(({ name }) => name !== list.name)) {
        const cursor = cursors.get(other.name) ?? "";
        // Both order certificates by notAfter or identities by it, under one name: only then it is the same kind of place.
        if (list.name.split(" by ")[1] === other.name.split(" by ")[1]) continue;
        await assert.rejects(
          list.read(store, { limit: 1, cursor }),
          { code: "request-invalid" },
          `${other.name} in ${list.name}`,
        );
      }
    }
  });

  async function readAll(list: List): Promise<readonly string[]> {
    const { items, nextCursor } = await list.read(store, { limit: 1000 });
    assert.equal(nextCursor, null, `${list.name} has outgrown a page`);
    return items;
  }

  /** Notes what may have another place in a list now. */
  async function disturb({ act, pick, days }: Disturbance, touched: Set<string>): Promise<void> {
    run += 1;
    const { items } = await store.listIdentities({ limit: 1000, profile: "gateway", now });
    const one = items.length === 0 ? undefined : items[pick % items.length];
    const id = `${"abcdefghijklmnopqrstuvwxyz"[pick % 26] ?? "x"}-${run}`;
    if (act === "add" || one === undefined) {
      return f.addIdentity(store, id, pick % 2 === 0 ? { labels: { site: "lab" } } : {});
    }
    if (act === "enroll") {
      await f.enrolled(store, id, { notAfter: f.t0 + days * f.day, issuedAt: f.t0 });
      return;
    }
    if (act === "token") {
      const token = { id: f.newId(), identity: one.id, createdBy: f.adminId, createdAt: f.t0 + pick, expiresAt: now };
      const rest = { spentAt: null, spentOn: null, revokedAt: null, secretHash: f.newId() };
      return store.createToken({ ...token, ...rest }, one.revision, [f.audit("token.created")]);
    }
    touched.add(one.id);
    if (act === "see") return store.recordSeen(one.id, f.t0 + pick);
    if (act === "suspend") return store.setIdentityState(one.id, "suspended", now, [f.audit("identity.suspended")]);
    for (const leaf of await store.listUsable(one.id, now)) {
      touched.add(leaf.serial);
      await store.revoke({
        records: [
          { issuerId: f.issuerId, serial: leaf.serial, reason: "superseded", revokedAt: now, notAfter: leaf.notAfter },
        ],
        basis: new Map([[leaf.serial, null]]),
        blockKeys: [],
        endLineages: [],
        crls: [],
        audit: [f.audit("certificate.revoked", leaf.serial)],
      });
    }
    if (act === "remove") {
      const step = { kind: "remove", id: one.id, basisRevision: one.revision } as const;
      await store.changeInventory([step], now, [f.audit("identity.removed", one.id)]);
    }
  }
});
