/**
 * Whatever is asked of the store, in whatever order and however many writes share a commit, refused ones among them: from a copy made at any
 * moment the journal makes the same database, whole.
 */
import assert from "node:assert/strict";
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { AppError } from "@newleaf/shared/problems";
import * as fc from "fast-check";
import type { NewCertificate } from "../../server/store/certificates.ts";
import type { RevocationReason } from "../../server/store/revocations.ts";
import { replayJournal } from "../../server/store/sqlite/journal/replay.ts";
import { openSqliteStore } from "../../server/store/sqlite/store.ts";
import { type Store, StaleBasis } from "../../server/store/store.ts";
import { assertSameTables } from "../support/database-tables.ts";
import * as f from "../unit/server/store/fixture.ts";

const actNames = [
  "add",
  "change",
  "suspend",
  "enroll",
  "renew",
  "promote",
  "revoke",
  "hold",
  "block",
  "lock",
  "release",
  "token",
  "spend",
  "revokeToken",
  "request",
  "deny",
  "grant",
  "crl",
  "note",
  "seen",
  "ping",
] as const;

interface Act {
  readonly act: (typeof actNames)[number];
  readonly who: number;
  readonly pick: number;
}

const act: fc.Arbitrary<Act> = fc.record({
  act: fc.constantFrom(...actNames),
  who: fc.integer({ min: 0, max: 2 }),
  pick: fc.nat({ max: 1000 }),
});
/** One history in which each succeeds. */
const plainHistory: readonly Act[] =
  "add enroll promote renew token spend token revokeToken hold release lock revoke change suspend request deny grant crl note seen ping"
    .split(" ")
    .flatMap((name) => actNames.filter((each) => each === name))
    .map((name) => ({ act: name, who: 0, pick: 0 }));

/** Acts asked for at once; or what happens between. */
const step = fc.oneof(
  { weight: 8, arbitrary: fc.array(act, { minLength: 1, maxLength: 8 }) },
  { weight: 1, arbitrary: fc.constantFrom("cut" as const, "restart" as const, "copy" as const) },
);

describe("a journal under any history", () => {
  it("makes the same database from any copy", async () => {
    const done = new Map<string, number>();
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 40, size: "max" }), async (steps) => {
        await using home = await f.scratch();
        const journal = join(home.directory, "journal");
        const open = () => openSqliteStore({ path: home.path, create: true, journal });
        const copies: string[] = [];
        const copy = (): void => {
          const path = join(home.directory, `copy-${copies.length}.db`);
          copyFileSync(home.path, path);
          copies.push(path);
        };
        await (await open())[Symbol.asyncDispose]();
        copy();
        let store = await open();
        await store.found(f.foundation());
        for (const next of steps) {
          if (next === "cut") await store.cutJournal();
          else if (next === "restart" || next === "copy") {
            await store[Symbol.asyncDispose]();
            if (next === "copy") copy();
            store = await open();
          } else await actTogether(store, next, done);
        }
        await store[Symbol.asyncDispose]();
        for (const path of copies) {
          assert.equal(replayJournal({ database: path, directory: journal }).stopped, null);
          assertSameTables(path, home.path);
        }
      }),
      {
        numRuns: Number(process.env["NEWLEAF_PROPERTY_RUNS"] ?? 4),
        examples: [[[...plainHistory.map((each) => [each]), [{ act: "block", who: 0, pick: 1 }], "copy", "cut"]]],
      },
    );
    for (const name of actNames) assert.ok((done.get(name) ?? 0) > 0, `no ${name} succeeded`);
  });
});

async function actTogether(store: Store, acts: readonly Act[], done: Map<string, number>): Promise<void> {
  const outcomes = await Promise.allSettled(acts.map((each) => perform(store, each)));
  for (const [index, outcome] of outcomes.entries()) {
    const name = acts[index]?.act ?? "";
    if (outcome.status === "fulfilled") done.set(name, (done.get(name) ?? 0) + 1);
    else if (!(outcome.reason instanceof AppError || outcome.reason instanceof StaleBasis)) throw outcome.reason;
  }
}

async function perform(store: Store, { act: name, who, pick }: Act): Promise<unknown> {
  const id = `agent-${who}`;
  const at = f.t0 + pick;
  const audit = [f.audit(name, id, at)];
  switch (name) {
    case "add":
      return f.addIdentity(store, id, { keys: [f.newKey()] });
    case "change": {
      const basisRevision = (await store.findIdentity(id))?.revision ?? 0;
      const change = { kind: "change", entry: f.entry(id, { labels: { pick: `${pick}` } }), basisRevision } as const;
      return store.changeInventory([change], at, audit);
    }
    case "suspend":
      return store.setIdentityState(id, pick % 3 === 0 ? "suspended" : "active", at, audit);
    case "token":
    case "spend":
    case "revokeToken":
      return withToken(store, name, id, at);
    case "request":
      return store.openRequest(f.request({ createdAt: at }), { maxOpen: 4, maxOpenPerAddress: 4 }, audit);
    case "deny": {
      const [open] = (await store.listRequests({ limit: 9, state: "pending", now: at })).items;
      return store.denyRequest(open?.id ?? "", "admin", at, audit);
    }
    case "grant": {
      const grant = { id: f.newId(), identity: await known(store, id), createdBy: "admin", createdAt: at };
      const revision = (await store.findIdentity(grant.identity))?.revision ?? 0;
      return store.createGrant({ ...grant, expiresAt: at + f.day, spentAt: null }, revision, audit);
    }
    case "crl": {
      const number = ((await store.latestCrl(f.issuerId))?.number ?? 0) + 1;
      return store.recordCrl(f.crl(number, at), audit);
    }
    case "note":
      return store.recordAudit([{ ...f.audit(name), detail: { pick, odd: [null, "\u2028", Number.NaN] } }]);
    case "seen":
      return store.recordSeen(await known(store, id), at);
    case "ping":
      return store.ping();
    default:
      return withLeaf(store, name, id, pick);
  }
}

async function withToken(store: Store, name: "token" | "spend" | "revokeToken", id: string, at: number) {
  if (name === "token") {
    const token = { id: f.newId(), identity: await known(store, id), createdBy: "admin", createdAt: at };
    const open = { ...token, expiresAt: at + f.day, spentAt: null, spentOn: null, revokedAt: null };
    const revision = (await store.findIdentity(token.identity))?.revision ?? 0;
    return store.createToken({ ...open, secretHash: f.newId() }, revision, [f.audit(name, id)]);
  }
  const tokens = (await store.listTokens({ limit: 100, identity: id })).items;
  const token = tokens.find(({ spentAt, revokedAt }) => spentAt === null && revokedAt === null) ?? tokens[0];
  if (token === undefined) throw new StaleBasis("no token");
  if (name === "revokeToken") return store.revokeToken(token.id, at, [f.audit(name, id)]);
  const record = f.enrollment(f.leaf(id));
  return store.recordIssuance({ ...record, basis: { ...(await basisOf(store, id, record.basis)), tokenId: token.id } });
}

async function withLeaf(store: Store, name: Act["act"], id: string, pick: number): Promise<unknown> {
  if (name === "enroll") {
    const record = f.enrollment(f.leaf(id));
    return store.recordIssuance({ ...record, basis: await basisOf(store, id, record.basis) });
  }
  const all = (await store.listCertificates({ identity: id, limit: 100, now: f.t0 })).items;
  const fitting = name === "promote" || name === "renew" ? all.filter(({ state }) => fits(name, state)) : all;
  const leaf = fitting[pick % fitting.length];
  if (leaf === undefined) throw new StaleBasis("no leaf");
  const lineage = leaf.lineage ?? "";
  const before = leaf.reason as RevocationReason | null;
  const certificate = leaf as NewCertificate & typeof leaf;
  switch (name) {
    case "renew": {
      const generation = ((await store.findLineage(lineage))?.newestGeneration ?? 0) + 1;
      const record = f.renewal(certificate, { generation });
      return store.recordIssuance({ ...record, basis: await basisOf(store, id, record.basis) });
    }
    case "promote":
      return f.promote(store, leaf.serial);
    case "lock":
      return store.lockLineage(lineage, { seen: leaf.serial }, f.t0, [f.audit(name, lineage)]);
    case "release":
      return before === "certificateHold"
        ? store.releaseHold({ serial: leaf.serial, at: f.t0, crls: [], audit: [f.audit(name)] })
        : store.releaseLineage(lineage, f.t0, [f.audit(name, lineage)]);
    case "block":
      return store.revoke({
        records: [f.revocation(certificate, "keyCompromise")],
        basis: new Map([[leaf.serial, before]]),
        blockKeys: [leaf.key],
        endLineages: [lineage],
        crls: [],
        audit: [f.audit(name)],
      });
    default:
      return f.revoke(store, certificate, name === "hold" ? "certificateHold" : "superseded", before);
  }
}

function fits(name: "promote" | "renew", state: string): boolean {
  return state === (name === "promote" ? "pending" : "current");
}

async function known(store: Store, id: string): Promise<string> {
  if ((await store.findIdentity(id)) === null) throw new StaleBasis("no identity");
  return id;
}

async function basisOf<Basis extends object>(store: Store, id: string, basis: Basis) {
  return { ...basis, identity: { id, revision: (await store.findIdentity(id))?.revision ?? 0 } };
}
