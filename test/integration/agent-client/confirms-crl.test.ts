/** An operator who waits for a revocation hears of the real agent when its proxy was told, and not before. */
import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { enrollCommand } from "../../../agent-client/commands.ts";
import { createLog } from "../../../agent-client/log.ts";
import { nginxFiles, runInBackground, testHost, until } from "../../support/agent.ts";
import { settled } from "../../support/agent-client.ts";
import { startService } from "../../support/service.ts";
import { newleaf } from "../../support/terminal.ts";

test("a reload that fails leaves the revocation unconfirmed; once it works, it is confirmed", async () => {
  await using service = await startService();
  const host = testHost(service, join(service.dir, "host"));
  const broken = join(service.dir, "broken");
  host.configure({ files: nginxFiles, reload: { command: ["/bin/sh", "-c", `test ! -e ${broken}`] }, probe: "none" });
  const token = await service.token("gateway-1", { dns: ["gateway.claw.internal"] });
  const options = { config: host.configFile, name: null, token, waitForApproval: false, adopt: false };
  const quiet = { log: createLog(() => undefined, Date.now) };
  await enrollCommand(options, { out: () => undefined, error: () => undefined }, new AbortController().signal, quiet);
  await using app = await host.open();
  await using running = runInBackground(app);
  await until("the agent follows", () => app.agents[0]?.view.feedAlive === true);
  const revoke = async (victim: string, wait: string) => {
    const { answer } = await settled(service, victim);
    const argv = ["cert", "revoke", "--serial", answer.serial, "--wait", wait, "--yes", "--data", service.dataDir];
    return newleaf(argv);
  };

  const first = await revoke("victim-1", "15s");
  assert.deepEqual([first.code, /1 of 1 connected/.test(first.err)], [0, true], first.err);

  writeFileSync(broken, "");
  const second = await revoke("victim-2", "3s");
  assert.equal(second.code, 1, second.out);
  assert.match(second.err, /Revoked but unconfirmed after 3s: gateway-1 \(has CRL 2; .*reload had failed/);

  rmSync(broken);
  const third = await revoke("victim-3", "20s");
  assert.deepEqual([third.code, /1 of 1 connected/.test(third.err)], [0, true], third.err);
  await running[Symbol.asyncDispose]();
});
