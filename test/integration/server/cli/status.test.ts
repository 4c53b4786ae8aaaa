/** `newleaf status`: each line that says what needs a hand, seen come and go. */
import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import type { AgentReport, CertificateAnswer } from "@newleaf/shared/api";
import { X509Certificate } from "node:crypto";
import { fingerprint } from "@newleaf/shared/fingerprint";
import { operatorCommands, type OperatorCommands } from "../../../support/operator-commands.ts";
import { startService, type TestService } from "../../../support/service.ts";

interface Attention {
  readonly kind: string;
  readonly count: number;
  readonly command: string;
  readonly subjects: readonly { readonly id: string; readonly since: string | null; readonly detail: string | null }[];
}

const hour = 3_600_000;
let service: TestService;
let commands: OperatorCommands;
const kinds = async (): Promise<readonly string[]> => (await attention()).map(({ kind }) => kind);
const attention = async (): Promise<readonly Attention[]> =>
  (await commands.json<{ attention: readonly Attention[] }>("status")).attention;
const of = async (kind: string): Promise<Attention> =>
  (await attention()).find((one) => one.kind === kind) ?? assert.fail(`nothing of kind ${kind}`);

/** What the host's agent says, as the service records it. */
async function report(leaf: CertificateAnswer, served: string, crls: Record<string, number> = {}): Promise<void> {
  const { store, clock } = service.server.authority;
  const at = clock.now();
  const time = new Date(at).toISOString();
  const body: AgentReport = {
    certificates: [
      {
        name: "web",
        installed: served,
        served: [{ address: "10.0.1.42:443", serverName: "x", fingerprint: served, at: time }],
      },
    ],
    bundleVersion: 1,
    crls,
    clock: time,
  };
  await store.recordReport({ identity: leaf.identity, serial: leaf.serial, at, clockSkew: 0, report: body });
}

const printOf = (leaf: CertificateAnswer): string => fingerprint(new X509Certificate(leaf.certificate).raw);

suite("newleaf status", () => {
  before(async () => {
    service = await startService();
    commands = operatorCommands(service);
  });
  after(() => service[Symbol.asyncDispose]());

  test("a service that was just founded says what is still to be done, and nothing else", async () => {
    assert.deepEqual(await kinds(), ["backup-old", "root-key", "journal-off"]);
    await commands.must(["backup", "create"]);
    await rm(join(service.dataDir, "offline", "root.key.pem"));
    assert.deepEqual(await kinds(), ["journal-off"]);
    assert.match(await commands.must(["status"]), /^- there is no journal.*: newleaf doctor\n\nPROFILE/m);
  });

  test("a host that serves another leaf, lags behind a CRL, or falls silent is named with the time and the command", async () => {
    const leaf = await commands.enrolled("host-1");
    const { issuers } = service.server.authority;
    const [crl] = [...issuers.crls.values()].filter(({ issuerId }) => issuers.signers.has(issuerId));
    assert.ok(crl !== undefined);
    const newest = { [crl.issuerId]: crl.number };
    await report(leaf, printOf(leaf), newest);
    assert.deepEqual(await kinds(), ["journal-off"]);

    await report(leaf, `sha256:${"ab".repeat(32)}`, newest);
    assert.deepEqual(await kinds(), ["journal-off"], "a host may take some minutes to reload");
    service.clock.advance(6 * 60_000);
    const unserved = await of("not-served");
    assert.deepEqual(
      [unserved.count, unserved.subjects[0]?.id, unserved.command],
      [1, "host-1", "newleaf identity show IDENTITY"],
    );
    assert.match(
      await commands.must(["status"]),
      /^!! hosts serve another leaf[^\n]* \(1\): newleaf identity show IDENTITY\n {5}host-1 {2}since /m,
    );
    await report(leaf, printOf(leaf), newest);
    assert.ok(!(await kinds()).includes("not-served"));

    await report(leaf, printOf(leaf), { [crl.issuerId]: crl.number - 1 });
    service.clock.advance(hour / 2);
    const behind = await of("crl-behind");
    assert.deepEqual([behind.count, behind.subjects[0]?.id], [1, "host-1"]);
    await report(leaf, printOf(leaf), { [crl.issuerId]: 99 });
    assert.ok(!(await kinds()).includes("crl-behind"));

    service.clock.advance(25 * hour);
    assert.deepEqual([(await of("silent")).subjects[0]?.id, (await of("unconfirmed")).count], ["host-1", 1]);
  });

  test("a leaf is overdue by its own life, and a decision that waits is named", async () => {
    const { store, clock } = service.server.authority;
    assert.ok(!(await kinds()).includes("overdue"), "29 days are left of 30");
    const row = await store.findLast("host-1");
    assert.ok(row !== null);
    service.clock.advance(row.renewalEnd - clock.now() + 1000);
    const overdue = await of("overdue");
    assert.deepEqual([overdue.count, overdue.subjects[0]?.id], [1, "host-1"]);
    assert.match(overdue.subjects[0]?.detail ?? "", /^ends 20/);
    await commands.must(["identity", "suspend", "host-1", "--yes"]);
    assert.ok(!(await kinds()).includes("overdue"), "who is suspended cannot renew, as it was meant");
  });
});

suite("newleaf status with leaves of a day", () => {
  test("nothing warns of a leaf that lives as its profile says", async () => {
    await using brief = await startService({ NEWLEAF_PROFILES_AGENT_VALIDITY: "12h" });
    const { enrolled, json } = operatorCommands(brief);
    await enrolled("brief");
    const { attention: found } = await json<{ attention: readonly Attention[] }>("status");
    assert.deepEqual(
      found.map(({ kind }) => kind),
      ["backup-old", "root-key", "journal-off"],
    );
  });
});
