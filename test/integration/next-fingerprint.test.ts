/** Who pins leaves learns the next one before it is served: from the agent's report by way of the admin API and the command line. */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { after, test } from "node:test";
import { fingerprint } from "@newleaf/shared/fingerprint";
import { call, type Host, renew, settled } from "../support/agent-client.ts";
import { operatorCommands } from "../support/operator-commands.ts";
import { startService } from "../support/service.ts";

const service = await startService();
after(() => service[Symbol.asyncDispose]());
const { must, json } = operatorCommands(service);

interface Shown {
  readonly issued: string;
  readonly nextFingerprint: string | null;
  readonly installed: readonly { readonly fingerprint: string | null; readonly nextFingerprint: string | null }[];
}

const leafOf = (host: Host): string => fingerprint(new X509Certificate(host.answer.certificate).raw);
const show = (id: string): Promise<Shown> => service.admin("GET", `/v1/identities/${id}`);

function report(host: Host, installed: string | null, nextFingerprint?: string): Promise<unknown> {
  const certificate = { name: "gateway", installed, served: [], ...(nextFingerprint && { nextFingerprint }) };
  const body = { certificates: [certificate], bundleVersion: 1, crls: {}, clock: new Date().toISOString() };
  return call(service, "agents", "POST", "/v1/reports", { host, body });
}

test("an identity shows the leaf its host serves next, until that leaf is installed", async () => {
  const first = await settled(service, "pinned-1");
  await report(first, leafOf(first));
  assert.equal((await show("pinned-1")).nextFingerprint, null, "nothing is on its way");

  const second = await renew(service, first);
  await report(first, leafOf(first), leafOf(second));
  const announced = await show("pinned-1");
  assert.equal(announced.nextFingerprint, leafOf(second));
  assert.deepEqual(announced.installed, [
    { name: "gateway", fingerprint: leafOf(first), nextFingerprint: leafOf(second) },
  ]);
  assert.match(await must(["identity", "show", "pinned-1"]), new RegExp(`^nextFingerprint: ${leafOf(second)}$`, "m"));
  assert.equal((await json<Shown>("identity", "show", "pinned-1")).nextFingerprint, leafOf(second));

  await report(second, leafOf(second));
  const done = await show("pinned-1");
  assert.deepEqual([done.nextFingerprint, done.issued], [null, leafOf(second)]);
  assert.match(await must(["identity", "show", "pinned-1"]), /^nextFingerprint: none$/m);
});

test("a leaf that is installed already, was revoked, or is not this identity's is never shown as the next one", async () => {
  const host = await settled(service, "pinned-2");
  const stranger = await settled(service, "pinned-3");
  for (const claimed of [leafOf(host), leafOf(stranger), `sha256:${"0".repeat(64)}`]) {
    await report(host, leafOf(host), claimed);
    assert.equal((await show("pinned-2")).nextFingerprint, null, claimed);
  }
  const next = await renew(service, host);
  await report(host, leafOf(host), leafOf(next));
  assert.equal((await show("pinned-2")).nextFingerprint, leafOf(next));
  await service.admin("POST", "/v1/revocations", { serial: next.answer.serial, reason: "keyCompromise" });
  assert.equal((await show("pinned-2")).nextFingerprint, null, "nobody shall pin a revoked leaf");
});
