/** When no operator can act any more, the owner of the data directory makes one who can. */
import assert from "node:assert/strict";
import { chownSync, existsSync, readFileSync, rmSync, statSync } from "node:fs";
import { X509Certificate } from "node:crypto";
import { userInfo } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { normaliseSerial } from "@newleaf/shared/serial-number";
import { call, renew, settled, type Host } from "../../../../support/agent-client.ts";
import { operatorCommands } from "../../../../support/operator-commands.ts";
import { person } from "../../../../support/operators.ts";
import { needsRoot } from "../../../../support/programs.ts";
import { operatorId, startService, type TestService } from "../../../../support/service.ts";
import { type CommandResult, newleaf } from "../../../../support/terminal.ts";

let service: TestService;
before(async () => {
  service = await startService();
});
after(() => service[Symbol.asyncDispose]());

const rescue = (id: string, ...more: string[]): Promise<CommandResult> =>
  newleaf(["operator", "rescue", id, "--data", service.dataDir, ...more], { clock: service.clock });

const stop = async (): Promise<void> => service.server[Symbol.asyncDispose]();
const directoryOf = (id: string): string => join(service.dataDir, "operators", id);

function serialIn(directory: string): string {
  return normaliseSerial(new X509Certificate(readFileSync(join(directory, "chain.pem"))).serialNumber);
}

async function crlNumber(): Promise<number> {
  const bundle = await call(service, "enrollment", "GET", "/v1/bundle");
  const { crls } = bundle.body as { crls: { number: number }[] };
  return Math.max(...crls.map(({ number }) => number));
}

describe("newleaf operator rescue", () => {
  it("refuses while the service runs, and changes nothing", async () => {
    const { code, err } = await rescue("new@operators");
    assert.deepEqual([code, /Another process has the database .* open; stop it first/.test(err)], [1, true]);
    assert.ok(!existsSync(directoryOf("new@operators")));
  });

  it("refuses another user than the owner", { skip: needsRoot("to give the directory away") }, async () => {
    const { uid } = statSync(service.dataDir);
    await stop();
    chownSync(service.dataDir, 12_345, -1);
    try {
      const { code, err } = await rescue("new@operators");
      assert.deepEqual([code, /belongs to uid 12345.*sudo -u '#12345'/s.test(err)], [1, true]);
    } finally {
      chownSync(service.dataDir, uid, -1);
    }
    assert.ok(!existsSync(directoryOf("new@operators")));
    await service.restart();
  });

  it("ends a locked lineage of that operator with all its certificates, and lists them on the CRL", async () => {
    const alice = await person(service, "alice@operators", "operator");
    const locked = await stolen(alice.host);
    const number = await crlNumber();
    await stop();
    const { code, err } = await rescue("alice@operators");
    assert.equal(code, 0, err);
    await service.restart();
    const { store } = service.server.authority;
    assert.equal((await store.findLineage(locked))?.state, "ended");
    assert.equal((await store.findIdentity("alice@operators"))?.role, "admin");
    for (const leaf of await store.listLineageCertificates(locked)) assert.equal(leaf.state, "revoked");
    assert.ok((await crlNumber()) > number);
    const listed = await newleaf(["status", "--data", service.dataDir, "--as", "alice@operators"]);
    assert.equal(listed.code, 0, listed.err);
  });

  it("revives one who is suspended or removed, with the role that is said, and supersedes what he had", async () => {
    const bob = await person(service, "bob@operators", "admin");
    const carol = await person(service, "carol@operators", "admin");
    await operatorCommands(service).must(["identity", "suspend", bob.id, "--yes", "--as", operatorId]);
    await operatorCommands(service).must(["operator", "remove", carol.id, "--yes", "--as", operatorId]);
    await stop();
    for (const { id } of [bob, carol]) {
      const { code, err } = await rescue(id, "--role", "approver");
      assert.equal(code, 0, err);
    }
    await service.restart();
    const { store } = service.server.authority;
    for (const { id } of [bob, carol]) {
      const row = await store.findIdentity(id);
      assert.deepEqual([row?.state, row?.role], ["active", "approver"]);
    }
    assert.equal((await store.findCertificate(bob.host.answer.serial))?.state, "superseded");
    assert.equal((await store.findCertificate(carol.host.answer.serial))?.state, "revoked");
  });

  it("makes nobody of an identity that is something else, nor of a name that is none", async () => {
    await settled(service, "host-1");
    await stop();
    const host = await rescue("host-1");
    assert.deepEqual([host.code, /of profile agent, no operator/.test(host.err)], [1, true]);
    assert.ok(!existsSync(directoryOf("host-1")), "nothing is left over");
    assert.equal((await rescue("../elsewhere")).code, 2);
    assert.equal((await rescue("x", "--role", "king")).code, 2);
    await service.restart();
  });

  it("gives the first operator, whose files are lost and whose certificate is revoked, a new one", async () => {
    const before = serialIn(directoryOf(operatorId));
    await service.admin("POST", `/v1/certificates/${before}/revocation`, { reason: "keyCompromise" });
    const commands = operatorCommands(service);
    const refused = await commands.command(["status", "--as", operatorId]);
    assert.deepEqual([refused.code, /certificate-revoked/.test(refused.err)], [1, true]);
    await stop();
    rmSync(directoryOf(operatorId), { recursive: true });
    const { code, out, err } = await rescue(operatorId);
    assert.equal(code, 0, err);
    assert.match(out, /admin@operators has the role admin and a new certificate/);
    assert.equal(statSync(join(directoryOf(operatorId), "key.pem")).mode & 0o777, 0o600);
    await service.restart();

    await commands.must(["status", "--as", operatorId]);
    await commands.must(["audit", "verify", "--as", operatorId]);
    const { store } = service.server.authority;
    const serial = serialIn(directoryOf(operatorId));
    assert.equal((await store.findCertificate(serial))?.state, "current");
    assert.equal((await store.findCertificate(before))?.state, "revoked", "nothing is taken back");
    const rows = await commands.json<
      { action: string; actorKind: string; actor: string; detail: { hostUser: string } }[]
    >("audit", "list", "--target", operatorId, "--as", operatorId);
    const told = rows.find(({ action }) => action === "operator.rescued");
    assert.deepEqual([told?.actorKind, told?.actor, told?.detail.hostUser], ["system", "rescue", userInfo().username]);
  });
});

/** Two holders: the copy renews, and so does the original. @returns the lineage, which is locked */
async function stolen(host: Host): Promise<string> {
  const thief = await renew(service, host);
  await call(service, "agents", "GET", "/v1/renewal-window", { host: thief });
  await assert.rejects(renew(service, host), { code: "lineage-locked" });
  return host.answer.lineage;
}
