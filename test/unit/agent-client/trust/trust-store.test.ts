/** The trust bundle and CRLs on this host, fetched over TLS from a service that does as the test says. */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fingerprint } from "@newleaf/shared/fingerprint";
import { pemEncode } from "@newleaf/shared/pem";
import { type Clock, systemClock } from "@newleaf/shared/clock";
import { authorityId } from "../../../../agent-client/install/material.ts";
import { createLog } from "../../../../agent-client/log.ts";
import { createServiceClient } from "../../../../agent-client/service-client.ts";
import { readTrust, TrustStore } from "../../../../agent-client/trust/trust-store.ts";
import { type FakeService, publish, startFakeService } from "../../../support/fake-service.ts";
import { needs } from "../../../support/programs.ts";
import { temporaryDirectory } from "../../../support/temporary-directory.ts";
import { makeRoot, makeTestCa } from "../../../support/test-ca.ts";

const skip = needs("openssl");
const directory = temporaryDirectory("trust");
let made = 0;

interface Scene {
  readonly pki: ReturnType<typeof makeTestCa>;
  readonly service: FakeService;
  readonly state: string;
  readonly rootsFile: string;
  open(change?: { rootsFile?: string | null; rootFingerprint?: string; clock?: Clock }): Promise<TrustStore>;
}

async function withScene(story: (scene: Scene) => Promise<void>): Promise<void> {
  made += 1;
  const home = join(directory, String(made));
  mkdirSync(home);
  const pki = makeTestCa(join(home, "ca"));
  await using service = await startFakeService(publish(pki.root, pki.intermediate), pki.intermediate);
  const rootsFile = join(home, "roots.txt");
  writeFileSync(rootsFile, pemEncode("CERTIFICATE", pki.root.certificate));
  const state = join(home, "state");
  mkdirSync(state);
  await story({
    pki,
    service,
    state,
    rootsFile,
    async open({ rootsFile: file = rootsFile, rootFingerprint = null as string | null, clock = systemClock } = {}) {
      const store: TrustStore = await TrustStore.open({
        state,
        rootsFile: file,
        rootFingerprint,
        client: () => client,
        clock,
        log: createLog(() => {}, Date.now),
      });
      const client = createServiceClient({
        server: service.url,
        enrollment: service.url,
        roots: () => store.anchors,
        clock,
      });
      return store;
    },
  });
}

test("bundle and CRLs are fetched, kept, and there after a restart", { skip }, async () => {
  await withScene(async ({ pki, open, state }) => {
    const store = await open();
    assert.equal(store.trust.version, 0);
    await store.refresh(null);
    assert.equal(store.trust.version, 1);
    assert.deepEqual(
      [...store.trust.crls.keys()].toSorted(),
      [pki.root, pki.intermediate].map((ca) => authorityId(ca.certificate)).toSorted(),
    );
    const again = await open();
    assert.deepEqual([again.trust.version, again.trust.crls.size, again.trust.roots.length], [1, 2, 1]);
    assert.equal((await readTrust(state, Date.now())).crls.size, 2);
  });
});

test("nothing new costs one small question", { skip }, async () => {
  await withScene(async ({ service, open }) => {
    const store = await open();
    await store.refresh(null);
    const { revision } = store;
    const before = service.requests.length;
    await store.refresh(null);
    assert.deepEqual(service.requests.slice(before), ["GET /v1/bundle"]);
    assert.equal(store.revision, revision);
  });
});

test("what the feed announces makes the store outdated until it is fetched", { skip }, async () => {
  await withScene(async ({ service, pki, open }) => {
    const store = await open();
    await store.refresh(null);
    const id = authorityId(pki.intermediate.certificate);
    store.announce({ bundleVersion: 1, crls: { [id]: 1, unknown: 99 } });
    assert.equal(store.outdated, false, "nothing that is not held already, and no CA that is not known");
    store.announce({ bundleVersion: 1, crls: { [id]: 2 } });
    assert.equal(store.outdated, true);
    service.published.crls.set(id, pki.intermediate.crl({ number: 2, revoked: ["0a"] }));
    await store.refresh(null);
    assert.equal(store.outdated, false);
    assert.equal(store.isRevoked("0a"), true);
  });
});

test("a service that announces what it does not have is no reason to ask it for ever", { skip }, async () => {
  await withScene(async ({ service, pki, open }) => {
    const store = await open();
    await store.refresh(null);
    const id = authorityId(pki.intermediate.certificate);
    store.announce({ bundleVersion: 9, crls: {} });
    await assert.rejects(store.refresh(null), /announces a newer trust bundle or CRL than it has/);
    // Announced while it was asked: the next question may find it.
    for (const isLast of [false, true]) {
      const asked = store.refresh(null);
      store.announce({ bundleVersion: 1, crls: { [id]: isLast ? 3 : 2 } });
      if (isLast) await assert.rejects(asked, /than it has/);
      else await asked;
    }
    service.published.crls.set(id, pki.intermediate.crl({ number: 3, revoked: ["0a"] }));
    await store.refresh(null);
    assert.equal(store.outdated, false);
  });
});

test("a bundle with a root nobody vouches for is refused whole, and the CRLs go on being fresh", { skip }, async () => {
  await withScene(async ({ service, pki, open, state }) => {
    const store = await open();
    await store.refresh(null);
    const stranger = makeRoot(join(state, "..", "stranger"), "Stranger");
    const id = authorityId(pki.intermediate.certificate);
    service.published.version = 2;
    service.published.roots = [pki.root.certificate, stranger.certificate];
    service.published.crls.set(id, pki.intermediate.crl({ number: 2 }));
    await assert.rejects(store.refresh(null), /no trusted root vouches/);
    assert.equal(store.trust.version, 1);
    assert.equal(store.trust.crls.get(id)?.number, 2);
    await assert.rejects(store.refresh(null), /no trusted root vouches/, "it is not taken for known the next time");
    assert.equal((await open()).anchors.length, 1);
  });
});

test("a human can bring a root by the file, once; a bundle that drops it ends that", { skip }, async () => {
  await withScene(async ({ service, pki, open, rootsFile }) => {
    const store = await open();
    await store.refresh(null);
    const second = makeRoot(join(rootsFile, "..", "second"), "Second");
    writeFileSync(rootsFile, [pki.root, second].map((ca) => pemEncode("CERTIFICATE", ca.certificate)).join(""));
    service.published.version = 2;
    service.published.roots = [pki.root.certificate, second.certificate];
    await assert.rejects(store.refresh(null), /404|no Newleaf|CRL|protocol|sent no CRL/i, "its CRL is not there yet");
    service.published.crls.set(authorityId(second.certificate), second.crl());
    await store.refresh(null);
    assert.equal(store.trust.version, 2);
    service.published.version = 3;
    service.published.roots = [pki.root.certificate];
    await store.refresh(null);
    assert.deepEqual(store.anchors, [pki.root.certificate]);
    assert.deepEqual((await open()).anchors, [pki.root.certificate], "the file does not bring it back");
  });
});

test("a CRL number that falls is refused and the CRL held stays", { skip }, async () => {
  await withScene(async ({ service, pki, open }) => {
    const id = authorityId(pki.intermediate.certificate);
    service.published.crls.set(id, pki.intermediate.crl({ number: 5, revoked: ["0a"] }));
    const store = await open();
    await store.refresh(null);
    service.published.crls.set(id, pki.intermediate.crl({ number: 4 }));
    await assert.rejects(store.refresh(null), /numbers only rise/);
    assert.equal(store.isRevoked("0a"), true);
  });
});

test(
  "first contact by fingerprint keeps that root only; without any root nothing is said to anybody",
  { skip },
  async () => {
    await withScene(async ({ service, pki, open }) => {
      const none = await open({ rootsFile: null });
      await assert.rejects(none.refresh(null), /no root is known yet/);
      assert.deepEqual(service.requests, []);
      const wrong = await open({ rootsFile: null, rootFingerprint: `sha256:${"1".repeat(64)}` });
      await assert.rejects(wrong.refresh(null), /does not have the root sha256:1111/);
      const right = await open({ rootsFile: null, rootFingerprint: fingerprint(pki.root.certificate) });
      await right.refresh(null);
      assert.equal(right.trust.version, 1);
      assert.deepEqual(right.anchors, [pki.root.certificate]);
    });
  },
);

test("a service of another CA is not believed", { skip }, async () => {
  await withScene(async ({ open, rootsFile }) => {
    const other = makeRoot(join(rootsFile, "..", "other"), "Other");
    writeFileSync(rootsFile, pemEncode("CERTIFICATE", other.certificate));
    await assert.rejects((await open()).refresh(null), { name: "NetworkError", fault: "tls" });
  });
});

test("damage: a CRL is fetched again, a damaged record is refused with what to do", { skip }, async () => {
  await withScene(async ({ pki, open, state }) => {
    await (await open()).refresh(null);
    const id = authorityId(pki.intermediate.certificate);
    writeFileSync(join(state, "crls", `${id}.crl`), "damaged");
    const store = await open();
    assert.equal(store.trust.crls.size, 1);
    await store.refresh(null);
    assert.equal(store.trust.crls.size, 2);
    const text = readFileSync(join(state, "trust.json"), "utf8");
    for (const damaged of ["", text.slice(1), text.replace('"format":1', '"format":9')]) {
      writeFileSync(join(state, "trust.json"), damaged);
      await assert.rejects(open(), /trust\.json is damaged .*delete it/);
    }
  });
});

test("a roots file that is missing or no PEM is named", { skip }, async () => {
  await withScene(async ({ open, rootsFile }) => {
    await assert.rejects(open({ rootsFile: `${rootsFile}.none` }), /the roots file cannot be read/);
    writeFileSync(rootsFile, "hello");
    await assert.rejects(open(), /holds no certificate/);
  });
});

test(
  "by a clock that is behind every CRL is early: the first is laid aside until its time, and survives a restart",
  { skip },
  async () => {
    await withScene(async ({ pki, service, open, state }) => {
      const id = authorityId(pki.intermediate.certificate);
      const minute = 60_000;
      const start = Date.now();
      let now = start;
      const clock = { now: () => now };
      const publishAt = (number: number, at: number): unknown =>
        service.published.crls.set(
          id,
          pki.intermediate.crl({ number, thisUpdate: at, nextUpdate: at + 14 * 86_400_000 }),
        );
      publishAt(1, start - minute);
      const store = await open({ clock });
      await store.refresh(null);
      publishAt(2, start + 60 * minute);
      await assert.rejects(store.refresh(null), /is from the future/);
      assert.equal(store.trust.crls.get(id)?.number, 1, "a proxy with this clock would refuse everybody for it");
      now += 60 * minute;
      publishAt(3, start + 120 * minute);
      const again = await open({ clock });
      await assert.rejects(again.refresh(null), /is from the future/);
      assert.equal(again.trust.crls.get(id)?.number, 2, "its time has come");
      now += 61 * minute;
      await again.refresh(null);
      assert.equal(again.trust.crls.get(id)?.number, 3);
      assert.deepEqual(
        readdirSync(join(state, "crls")).filter((name) => name.endsWith(".early")),
        [],
      );
    });
  },
);

test(
  "a CRL that ended while the host slept makes what is held outdated, until the service was asked",
  { skip },
  async () => {
    await withScene(async ({ pki, service, open }) => {
      const id = authorityId(pki.intermediate.certificate);
      let now = Date.now();
      service.published.crls.set(
        id,
        pki.intermediate.crl({ number: 1, thisUpdate: now - 60_000, nextUpdate: now + 60_000 }),
      );
      const store = await open({ clock: { now: () => now } });
      await store.refresh(null);
      assert.equal(store.outdated, false);
      now += 120_000;
      assert.equal(store.outdated, true);
      await store.refresh(null);
      assert.equal(store.outdated, false, "asking again at once would not make it publish");
    });
  },
);
