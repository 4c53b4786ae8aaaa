import assert from "node:assert/strict";
import { request as httpsRequest } from "node:https";
import { after, before, describe, it } from "node:test";
import { fingerprint } from "@newleaf/shared/fingerprint";
import { pemDecode } from "@newleaf/shared/pem";
import { call, credentials, csrFor, newKey, renew, settled, use, type Host } from "../support/agent-client.ts";
import { startService, type TestService } from "../support/service.ts";
import { newleaf } from "../support/terminal.ts";

let service: TestService;
const hour = 3_600_000;
const day = 24 * hour;

/** Leaves end before the service's own certificate is renewed: one made while the clock is moved would not be valid yet for the clients. */
const shortLived = { NEWLEAF_PROFILES_AGENT_VALIDITY: "1d" };

const newleafHere = (...argv: string[]) => newleaf([...argv, "--data", service.dataDir]);

/** A renewal from another address of this machine. */
function renewFrom(localAddress: string, host: Host, csr: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const asked = httpsRequest(
      `${service.urls.agents.replace("localhost", "127.0.0.1")}/v1/renewals`,
      {
        method: "POST",
        localAddress,
        servername: "localhost",
        agent: false,
        ca: service.roots,
        ...credentials(host),
        headers: { "Content-Type": "application/json" },
      },
      (answer) => answer.resume().on("end", () => resolve(answer.statusCode ?? 0)),
    );
    asked.on("error", reject);
    asked.end(JSON.stringify({ csr }));
  });
}

interface Story {
  readonly state: string;
  readonly evidence: {
    readonly address: string;
    readonly at: string;
    readonly otherHolder: {
      readonly serial: string;
      readonly lastUsed: { readonly at: string; readonly address: string };
      readonly presentedLeafBefore: { readonly firstUsed: { readonly address: string } };
    };
  } | null;
  readonly story: readonly { event: string; generation: number | null; address: string | null; key: string | null }[];
}

/** The rightful host renews and uses its new leaf; then somebody with a copy of the old one asks from elsewhere. */
async function conflict(identity: string): Promise<{ first: Host; second: Host; lineage: string }> {
  const first = await settled(service, identity);
  const second = await renew(service, first);
  await use(service, second);
  assert.equal(await renewFrom("127.0.0.2", first, csrFor(await newKey())), 409);
  return { first, second, lineage: first.answer.lineage };
}

describe("a stolen leaf", () => {
  before(async () => {
    service = await startService(shortLived);
  });
  after(() => service[Symbol.asyncDispose]());

  it("evidence, log and story have both holders, with times, addresses and keys", async () => {
    const { second, lineage } = await conflict("stolen");
    const { state, evidence, story } = await service.admin<Story>("GET", `/v1/lineages/${lineage}`);
    assert.equal(state, "locked");
    assert.ok(evidence);
    assert.equal(evidence.address, "127.0.0.2");
    assert.equal(evidence.otherHolder.serial, second.answer.serial);
    assert.match(evidence.otherHolder.lastUsed.address, /^(127\.0\.0\.1|::1)$/);
    assert.match(evidence.otherHolder.presentedLeafBefore.firstUsed.address, /^(127\.0\.0\.1|::1)$/);
    const warned = service.log.find(({ msg, lineage: of }) => msg === "two holders of one lineage" && of === lineage);
    assert.deepEqual(warned?.["evidence"], evidence, "the alert says what the lineage says");
    assert.deepEqual(
      story.map(({ event, generation }) => `${event} ${generation ?? "-"}`),
      [
        "certificate.issued 1",
        "certificate.first-used 1",
        "certificate.issued 2",
        "certificate.first-used 2",
        "certificate.superseded 1",
        "lineage.conflict 1",
      ],
    );
    assert.match(story.at(-1)?.key ?? "", /^sha256:/, "the key that asked");
    const shown = await newleafHere("lineage", "show", lineage);
    assert.match(shown.out, /#1 +CONFLICT +127\.0\.0\.2 +stolen/);
    assert.match(shown.out, new RegExp(`newleaf lineage release ${lineage}`));
  });

  it("a stale use is in the story, and does not hide where the leaf was while it was current", async () => {
    const first = await settled(service, "stale");
    const second = await renew(service, first);
    await use(service, second);
    service.clock.advance(10 * 60_000);
    try {
      await use(service, first);
    } finally {
      service.clock.advance(-10 * 60_000);
    }
    const { story } = await service.admin<Story>("GET", `/v1/lineages/${first.answer.lineage}`);
    assert.ok(story.some(({ event, generation }) => event === "lineage.stale-use" && generation === 1));
    const uses = await service.server.authority.store.listLeafUses(first.answer.lineage);
    assert.deepEqual(
      uses.map(({ generation, firstAt, lastAt }) => [generation, firstAt === lastAt]),
      [
        [1, true],
        [2, true],
      ],
    );
  });

  it("release keeps the current generation; it asks, and --yes answers", async () => {
    const { first, second, lineage } = await conflict("released");
    assert.equal((await newleafHere("lineage", "release", lineage)).code, 2, "nobody to ask");
    const no = await newleaf(["lineage", "release", lineage, "--data", service.dataDir], { answers: ["n"] });
    assert.match(no.err, /CONFLICT[^]*Release\?[^]*Nothing was changed/, "it shows the story first");
    await assert.rejects(renew(service, second), { code: "lineage-locked" });
    const yes = await newleafHere("lineage", "release", lineage, "--yes");
    assert.equal(yes.code, 0, yes.err);
    const third = await renew(service, second);
    assert.equal(third.answer.generation, 3);
    await assert.rejects(renew(service, first), { code: "lineage-locked" }, "the stale leaf locks it again");
  });

  it("revoke ends it: both are refused, their keys blocked, nothing comes back by a grant", async () => {
    const { first, second, lineage } = await conflict("ended");
    assert.equal((await newleafHere("lineage", "revoke", lineage, "--yes")).code, 0);
    await assert.rejects(use(service, second), { code: "certificate-revoked" });
    await assert.rejects(renew(service, first), { code: "certificate-revoked" });
    await service.admin("POST", "/v1/identities/ended/recovery-grants", { ttl: "1h" });
    for (const { key } of [first, second]) await assert.rejects(enroll(csrFor(key)), { code: "key-blocked" });
  });

  it("a dry run tells where each leaf is installed and served, and what has expired", async () => {
    const host = await settled(service, "placed");
    const [der] = pemDecode(host.answer.certificate, "CERTIFICATE");
    const leaf = fingerprint(der ?? Buffer.alloc(0));
    const at = new Date().toISOString();
    const served = [{ address: "10.0.1.42:9443", serverName: "gw.claw.internal", fingerprint: leaf, at }];
    const report = {
      certificates: [{ name: "gateway", installed: leaf, served }],
      bundleVersion: 1,
      crls: {},
      clock: at,
    };
    await call(service, "agents", "POST", "/v1/reports", { host, body: report });
    const dry = await newleafHere("cert", "revoke", "--identity", "placed", "--dry-run");
    assert.match(dry.out, /placed +unspecified +would be revoked .* gateway at 10\.0\.1\.42:9443/);
    assert.match(dry.out, /^1 leaf, in use at 1 host\.$/m);
    service.clock.advance(2 * day);
    try {
      const gone = await service.admin<{ total: number; expired: number }>("POST", "/v1/revocations", {
        identity: "placed",
        dryRun: true,
      });
      assert.deepEqual([gone.total, gone.expired], [0, 1]);
    } finally {
      service.clock.advance(-2 * day);
    }
  });
});

function enroll(csr: string): Promise<{ status: number }> {
  return call(service, "enrollment", "POST", "/v1/enrollments", { body: { csr } });
}

const grant = (identity: string) => service.admin("POST", `/v1/identities/${identity}/recovery-grants`, { ttl: "24h" });

/** State of the identity → what its enrollment with the last leaf's key is answered, with a grant open or without. */
const matrix: readonly {
  readonly name: string;
  readonly expired: boolean;
  readonly make: (host: Host) => Promise<unknown>;
  readonly without: number | string;
  readonly granted: number | string;
}[] = [
  { name: "expired", expired: true, make: async () => undefined, without: 202, granted: 201 },
  {
    name: "suspended",
    expired: true,
    make: ({ answer }) => service.admin("POST", `/v1/identities/${answer.identity}/suspension`),
    without: "identity-suspended",
    granted: "identity-suspended",
  },
  {
    name: "locked",
    expired: true,
    make: async (host) => {
      await use(service, await renew(service, host));
      await assert.rejects(renew(service, host), { code: "lineage-locked" });
    },
    without: "lineage-locked",
    granted: "lineage-locked",
  },
  {
    name: "revoked",
    expired: false,
    make: ({ answer }) => service.admin("POST", "/v1/revocations", { serial: answer.serial, reason: "superseded" }),
    without: 202,
    granted: "enrollment-denied",
  },
  {
    name: "compromised",
    expired: false,
    make: ({ answer }) => service.admin("POST", "/v1/revocations", { serial: answer.serial, reason: "keyCompromise" }),
    without: "key-blocked",
    granted: "key-blocked",
  },
  {
    name: "held",
    expired: false,
    make: ({ answer }) =>
      service.admin("POST", "/v1/revocations", { serial: answer.serial, reason: "certificateHold" }),
    without: 202,
    granted: "enrollment-denied",
  },
];

describe("a lost leaf", () => {
  before(async () => {
    service = await startService(shortLived);
  });
  after(() => service[Symbol.asyncDispose]());

  const outcome = (work: Promise<{ status: number }>): Promise<number | string> =>
    work.then(
      ({ status }) => status,
      (error: unknown) => (error as { code: string }).code,
    );

  for (const { name, expired, make, without, granted } of matrix) {
    it(`${name}: ${without} without a grant, ${granted} with one`, async () => {
      const identity = `lost-${name}`;
      const host = await settled(service, identity);
      await make(host);
      const csr = csrFor(host.key);
      if (expired) service.clock.advance(2 * day);
      try {
        assert.equal(await outcome(enroll(csr)), without);
        await grant(identity);
        assert.equal(await outcome(enroll(csr)), granted);
      } finally {
        if (expired) service.clock.advance(-2 * day);
      }
    });
  }

  it("a grant is single use, for a known key only, ends, is counted and audited", async () => {
    const host = await settled(service, "once");
    service.clock.advance(2 * day);
    try {
      await grant("once");
      assert.equal(await outcome(enroll(csrFor(await newKey()))), 202, "an unknown key waits");
      const first = (await enroll(csrFor(host.key))) as unknown as { body: Host["answer"] };
      assert.equal(await outcome(enroll(csrFor(host.key))), 201, "the same answer again, until it is used");
      await use(service, { key: host.key, answer: first.body });
      assert.notEqual(await outcome(enroll(csrFor(host.key))), 201);
      const { items } = await service.admin<{ items: { action: string; detail: Record<string, unknown> }[] }>(
        "GET",
        `/v1/audit?target=${first.body.serial}`,
      );
      const issued = items.find(({ action }) => action === "certificate.issued");
      assert.deepEqual([issued?.detail["kind"], issued?.detail["by"]], ["recovery", "recovery-grant"]);
      const text = await (await fetch(`${service.urls.ops}/metrics`)).text();
      assert.match(text, /newleaf_issued_total\{profile="agent",kind="recovery"\} 2/);

      const late = await settled(service, "late");
      await service.admin("POST", "/v1/identities/late/recovery-grants", { ttl: "1h" });
      service.clock.advance(2 * day);
      assert.equal(await outcome(enroll(csrFor(late.key))), 202, "the grant has ended");
      service.clock.advance(-2 * day);
    } finally {
      service.clock.advance(-2 * day);
    }
  });

  it("a host that was removed does not recover as the operator who has its name now", async () => {
    const host = await settled(service, "recycled");
    service.clock.advance(2 * day);
    try {
      await service.admin("DELETE", "/v1/identities/recycled");
      await service.admin("POST", "/v1/operators", { id: "recycled", role: "admin" });
      await grant("recycled");
      assert.equal(await outcome(enroll(csrFor(host.key))), 202, "waits for an operator, as any key does");
    } finally {
      service.clock.advance(-2 * day);
    }
  });

  it("a suspended identity cannot renew, enroll by token or poll; resumed it goes on with what it has", async () => {
    const host = await settled(service, "paused");
    const token = await service.token("paused");
    await service.admin("POST", "/v1/identities/paused/suspension");
    await assert.rejects(renew(service, host), { code: "identity-suspended" });
    await assert.rejects(use(service, host), { code: "identity-suspended" });
    const withToken = async () =>
      call(service, "enrollment", "POST", "/v1/enrollments", { body: { csr: csrFor(await newKey()), token } });
    await assert.rejects(withToken(), { code: "identity-suspended" });
    await service.admin("DELETE", "/v1/identities/paused/suspension");
    assert.equal((await renew(service, host)).answer.generation, 2);
    assert.equal((await withToken()).status, 201, "the refusals did not spend the token");
  });
});
