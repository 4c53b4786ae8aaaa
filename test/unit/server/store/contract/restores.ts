import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fingerprint } from "@newleaf/shared/fingerprint";
import type { NewCertificate } from "../../../../../server/store/certificates.ts";
import type { RestoreAct, UnvouchedSight } from "../../../../../server/store/restores.ts";
import type { Store } from "../../../../../server/store/store.ts";
import * as f from "../fixture.ts";
import { actions, type OpenStore, stale } from "./suite.ts";

export function restoreContract(open: OpenStore): void {
  describe("copies and restores", () => {
    let store: Store;
    before(async () => {
      store = await open();
      await store.found(f.foundation());
    });
    after(() => store[Symbol.asyncDispose]());

    it("copies itself while it is written to, once to a place", async () => {
      const directory = mkdtempSync(join(tmpdir(), "newleaf-copy-"));
      const path = join(directory, "copy.db");
      const writes = Array.from({ length: 50 }, (_, index) => f.addIdentity(store, `while-${index}`));
      const [facts] = await Promise.all([store.copyTo(path), ...writes]);
      assert.equal(statSync(path).mode & 0o777, 0o600);
      const { tables, audit, crls, bundleVersion, restores } = facts;
      assert.deepEqual([tables["certificates"], bundleVersion, restores], [0, 1, 0]);
      assert.deepEqual(crls, { [f.issuerId]: 1, [f.rootId]: 1 });
      const row = (await store.readAuditChain(audit.seq - 1, 1))[0];
      assert.equal(row?.hash, audit.hash, "the copy is of one moment");
      assert.equal(tables["audit"], audit.seq);
      await assert.rejects(store.copyTo(path), { code: "EEXIST" });
      rmSync(directory, { recursive: true });
    });

    it("records a restore: what is open is void, what is graver is revoked, numbers are above", async () => {
      const host = await f.enrolled(store, "restored-1");
      await f.addIdentity(store, "restored-2", { keys: [f.newKey()] });
      await store.createToken({ ...token("open"), secretHash: "a" }, 1, []);
      await store.openRequest(f.request({ id: "waiting" }), { maxOpen: 9, maxOpenPerAddress: 9 }, []);
      await store.createGrant(grant("restored-1"), 1, []);
      const unknown = f.newSerial();
      const act = restoreAct({
        revocations: [f.revocation(host, "keyCompromise"), { ...f.revocation(host, "superseded"), serial: unknown }],
        blockKeys: [host.key],
        crlFloors: [{ issuerId: f.issuerId, number: 500 }],
        bundleVersion: 40,
      });
      assert.deepEqual(await store.recordRestore(act), { tokens: 1, requests: 1, grants: 1, armedKeys: 1 });

      const later = f.t0 + f.minute;
      assert.equal((await store.findTokenById("open"))?.revokedAt, act.at);
      assert.equal(await store.findRequest("waiting", later), null);
      assert.equal(await store.findOpenGrant("restored-1", later), null);
      assert.equal((await store.findCertificate(host.serial))?.state, "revoked");
      assert.equal(await store.isKeyBlocked(host.key), true);
      const listed = await store.listRevocations(f.issuerId);
      assert.ok(listed.some(({ serial }) => serial === unknown));
      assert.equal((await store.currentBundle())?.version, 40);
      assert.deepEqual((await store.currentBundle())?.roots, [f.rootId]);
      assert.deepEqual(await store.listStaleCrlIssuers(), [f.issuerId]);
      const restore = await store.latestRestore();
      assert.deepEqual([restore?.epoch, restore?.complete], [1, false]);
      assert.equal((await actions(store)).at(-1), "store.restored");

      assert.equal(await store.nextCrlNumber(f.issuerId), 501);
      await assert.rejects(store.recordCrl(f.crl(2, later), []), stale);
      await store.recordCrl(f.crl(501, later), []);
      assert.equal(await store.nextCrlNumber(f.issuerId), 502);
      await assert.rejects(store.recordRestore(restoreAct({ bundleVersion: 40 })), /must rise/);
      assert.equal((await store.latestRestore())?.epoch, 1, "a refused one leaves no trace");
    });

    it("leaves armed keys armed when nothing is missing, and takes a newer CRL of an issuer whose key is elsewhere", async () => {
      const key = f.newKey();
      await f.addIdentity(store, "armed", { keys: [key] });
      const crl = f.crl(9, f.t0 + f.day, f.rootId);
      const serial = f.newSerial();
      const listed = { issuerId: f.rootId, serial, revokedAt: f.t0, notAfter: f.t0 + 900 * f.day };
      const voided = await store.recordRestore(
        restoreAct({
          complete: true,
          bundleVersion: 41,
          crls: [crl],
          revocations: [{ ...listed, reason: "cACompromise" }],
        }),
      );
      assert.equal(voided.armedKeys, 0);
      assert.equal((await store.findKey(key))?.armed, true);
      assert.equal((await store.latestCrl(f.rootId))?.number, 9);
      assert.equal(
        await store.findListing(f.rootId, serial),
        9,
        "who asks whether a parent lists an issuer is told so",
      );
    });

    it("keeps leaves that nobody vouches for, bounded, until they are decided or over", async () => {
      const leaf = f.leaf("lost");
      const sight = sightOf(leaf);
      const note = (seen: UnvouchedSight, max = 2, at = f.t0) =>
        store.noteUnvouched(seen, at, max, [f.audit("certificate.unvouched", seen.serial)]);
      const rows = (await actions(store)).length;
      assert.equal(await note(sight), true);
      assert.equal(await note({ ...sight, address: "192.0.2.9" }, 2, f.t0 + 5), false);
      const kept = await store.findUnvouched(leaf.serial);
      assert.deepEqual([kept?.address, kept?.firstSeenAt, kept?.lastSeenAt], ["192.0.2.9", f.t0, f.t0 + 5]);
      assert.equal(await note(sightOf(f.leaf("second"))), true);
      assert.equal(await note(sightOf(f.leaf("third"))), false, "no more than the bound");
      assert.equal((await actions(store)).length, rows + 2);
      assert.equal(await store.countOpenUnvouched(), 2);

      await f.addIdentity(store, "lost");
      const lineage = f.newId();
      const adoption = f.enrollment({ ...leaf, lineage }, { newLineage: lineage });
      await store.adoptUnvouched(adoption, "ann@operators");
      assert.equal((await store.findCertificate(leaf.serial))?.state, "pending");
      await assert.rejects(store.adoptUnvouched(adoption, "ann@operators"), stale);
      const adopted = await store.listUnvouched({ limit: 10, state: "adopted" });
      assert.deepEqual(
        adopted.items.map(({ serial, decidedBy }) => [serial, decidedBy]),
        [[leaf.serial, "ann@operators"]],
      );

      const [second] = (await store.listUnvouched({ limit: 10, state: "open" })).items;
      assert.ok(second);
      const records = [{ ...f.revocation(leaf, "superseded"), serial: second.serial, notAfter: second.notAfter }];
      const act = { records, basis: new Map([[second.serial, null]]), blockKeys: [], endLineages: [], crls: [] };
      await store.revokeUnvouched(
        second.serial,
        { ...act, audit: [f.audit("certificate.revoked")] },
        "ann@operators",
        f.t0,
      );
      assert.equal(await store.countOpenUnvouched(), 0);
      assert.equal(await note({ ...sightOf(f.leaf("x")), serial: second.serial }), false, "decided once");

      // The backup was made while it was open; it was revoked after that, as a CRL tells.
      const lost = f.leaf("lost");
      await note(sightOf(lost));
      const { issuerId, serial, notAfter } = lost;
      const revocation = { issuerId, serial, reason: "superseded", revokedAt: f.t0, notAfter } as const;
      await store.recordRestore(restoreAct({ bundleVersion: 42, revocations: [revocation] }));
      assert.equal((await store.findUnvouched(serial))?.state, "revoked");
      await assert.rejects(store.adoptUnvouched(f.enrollment(lost, { newLineage: f.newId() }), "ann@operators"), stale);
      assert.equal(await store.findCertificate(serial), null, "what is on a CRL does not become a leaf in force");

      await note(sightOf(f.leaf("newest", { issuedAt: f.t0 + 60 * f.day })), 2, f.t0 + 60 * f.day);
      assert.equal(await store.findUnvouched(leaf.serial), null, "what is over is forgotten");
    });
  });
}

function restoreAct(changes: Partial<RestoreAct>): RestoreAct {
  return {
    at: f.t0 + 1,
    complete: false,
    revocations: [],
    blockKeys: [],
    crls: [],
    crlFloors: [],
    bundleVersion: 2,
    detail: { backup: "2026-11-20" },
    audit: f.audit("store.restored"),
    ...changes,
  };
}

function sightOf(leaf: NewCertificate): UnvouchedSight {
  const { serial, issuerId, identity, notBefore, notAfter } = leaf;
  return {
    serial,
    issuerId,
    identity,
    key: fingerprint(randomBytes(32)),
    notBefore,
    notAfter,
    address: "192.0.2.1",
    der: leaf.der,
  };
}

function token(id: string) {
  const { t0, day, adminId } = f;
  const times = { createdAt: t0, expiresAt: t0 + day, spentAt: null, spentOn: null, revokedAt: null };
  return { id, identity: "restored-1", createdBy: adminId, ...times };
}

function grant(identity: string) {
  return { id: f.newId(), identity, createdBy: f.adminId, createdAt: f.t0, expiresAt: f.t0 + f.day, spentAt: null };
}
