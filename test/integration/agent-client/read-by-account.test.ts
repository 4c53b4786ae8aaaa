/** Servers that read their files as another user than the one they were started by: what `owner` is for. */
import assert from "node:assert/strict";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { factsOf, type FileName, type Material } from "../../../agent-client/install/material.ts";
import { renderFiles } from "../../../agent-client/install/render.ts";
import { stage } from "../../../agent-client/install/stage.ts";
import { switchTo } from "../../../agent-client/install/switch.ts";
import type { Target } from "../../../agent-client/install/target.ts";
import { probeServed } from "../../../agent-client/probe/probe.ts";
import { reload } from "../../../agent-client/reload/drivers.ts";
import { systemClock } from "../../../shared/clock.ts";
import { fingerprint } from "../../../shared/fingerprint.ts";
import { makeMaterial } from "../../support/material.ts";
import { freePort } from "../../support/processes.ts";
import { needs } from "../../support/programs.ts";
import { until } from "../../support/agent.ts";
import { startTargetServer } from "../../support/target-server.ts";
import { temporaryDirectory } from "../../support/temporary-directory.ts";
import { makeTestCa } from "../../support/test-ca.ts";

const files: readonly FileName[] = ["key.pem", "fullchain.pem", "combined.pem"];
const skip = process.geteuid?.() === 0 ? needs("stunnel4", "mosquitto", "openssl") : "needs root";

describe("files that a server reads as another user", { skip }, () => {
  const directory = temporaryDirectory("accounts");
  chmodSync(directory, 0o711);
  const pki = makeTestCa(directory);
  let count = 0;

  const installer = (owner: string) => {
    count += 1;
    const target: Target = {
      directory: join(directory, `tls-${count}`),
      files,
      owner,
      group: null,
      mode: 0o600,
      links: {},
    };
    return {
      file: (name: FileName): string => join(target.directory, "current", name),
      async install(material: Material): Promise<void> {
        const facts = factsOf(material, { bundleVersion: 1, stagedAt: Date.now() });
        await switchTo(target, (await stage(target, renderFiles(material, files), facts)).version);
      },
    };
  };
  const verdictOf = async (port: number, now: Material, before: Material | null) => {
    const expectation = {
      expected: fingerprint(now.leaf),
      previous: before === null ? null : fingerprint(before.leaf),
      roots: now.roots,
      timeoutMs: 1500,
    };
    return probeServed({ connect: `127.0.0.1:${port}`, serverName: "localhost" }, expectation, systemClock);
  };
  const newPlace = async () => {
    const dir = join(directory, `server-${count}`);
    mkdirSync(dir, { mode: 0o777 });
    chmodSync(dir, 0o777);
    const port = await freePort();
    return { dir, port, pidFile: join(dir, "pid") };
  };

  for (const [owner, outcome] of [
    ["root", "old"],
    ["stunnel4", "served"],
  ] as const) {
    it(`stunnel with setuid starts with files of ${owner}'s, and after a HUP the leaf is ${outcome}`, async () => {
      const { file, install } = installer(owner);
      const { dir, port, pidFile } = await newPlace();
      const [first, second] = [makeMaterial(pki), makeMaterial(pki)];
      await install(first);
      const config = join(dir, "stunnel.conf");
      const lines = [
        "foreground = yes",
        "setuid = stunnel4",
        `pid = ${pidFile}`,
        "[gateway]",
        `accept = 127.0.0.1:${port}`,
        "connect = 127.0.0.1:9",
        `cert = ${file("combined.pem")}`,
      ];
      writeFileSync(config, `${lines.join("\n")}\n`);
      const server = await startTargetServer({ port }, { argv: ["stunnel4", config], pidFile });
      try {
        assert.equal((await verdictOf(port, first, null)).outcome, "served");
        await install(second);
        const told = await reload({ kind: "signal", signal: "HUP", pidFile, process: "stunnel4" });
        assert.ok(told.ok, told.detail);
        assert.equal((await verdictOf(port, second, first)).outcome, outcome, server.log());
        if (outcome === "old") assert.match(server.log(), /Permission denied/);
      } finally {
        await server.stop();
      }
    });
  }

  it("Mosquitto reads the key after it has dropped root: root's own keeps it from starting", async () => {
    for (const owner of ["root", "mosquitto"]) {
      const { file, install } = installer(owner);
      const { dir, port } = await newPlace();
      const material = makeMaterial(pki);
      await install(material);
      const config = join(dir, "mosquitto.conf");
      const lines = [
        "user mosquitto",
        `listener ${port} 127.0.0.1`,
        "allow_anonymous true",
        `certfile ${file("fullchain.pem")}`,
        `keyfile ${file("key.pem")}`,
      ];
      writeFileSync(config, `${lines.join("\n")}\n`);
      const starting = startTargetServer({ port }, { argv: ["mosquitto", "-c", config] });
      if (owner === "root") {
        // It listens for a moment before it looks at the certificate.
        const refusal = /Unable to load server certificate.*Permission denied/s;
        const listened = await starting.catch((error: unknown) => {
          assert.match(String(error), refusal);
          return null;
        });
        if (listened !== null) await until("Mosquitto gives up", () => refusal.test(listened.log()), 5000);
        await listened?.stop();
        continue;
      }
      const server = await starting;
      try {
        assert.equal((await verdictOf(port, material, null)).outcome, "served");
      } finally {
        await server.stop();
      }
    }
  });
});
