/** kill -9 of the agent between every two steps, beside servers that are told by a socket, and by nobody. (By signal: in `npm test`.) */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, test } from "node:test";
import { startHaproxy } from "../support/haproxy.ts";
import { killBetweenAllSteps } from "../support/killed-agent.ts";
import { freePort } from "../support/processes.ts";
import { findProgram, needs } from "../support/programs.ts";
import { startStandIn } from "../support/stand-in.ts";

describe("an agent that is killed between any two steps completes the renewal", () => {
  test("beside HAProxy, told through its Runtime API", { skip: needs("haproxy"), timeout: 600_000 }, () =>
    killBetweenAllSteps(
      ["combined.pem", "fullchain.pem", "key.pem", "ca.pem", "crl.pem"],
      async ({ current }, dir) => {
        const haproxy = await startHaproxy({
          dir,
          combined: join(current, "combined.pem"),
          clientCa: join(current, "ca.pem"),
          crl: join(current, "crl.pem"),
          sockets: "admin",
        });
        return {
          port: haproxy.port,
          settings: {
            reload: { haproxy: { socket: haproxy.socket, reload: { master: haproxy.masterSocket } } },
          },
          assertStarts(after) {
            const checked = spawnSync(findProgram("haproxy") ?? "", ["-c", "-q", "-f", haproxy.config]);
            assert.equal(checked.status, 0, `haproxy -c after ${after}: ${String(checked.stderr)}`);
          },
          stop: () => haproxy.stop(),
        };
      },
      ["announced"],
    ),
  );

  test("beside a server that watches its files", { timeout: 600_000 }, () =>
    killBetweenAllSteps(
      ["fullchain.pem", "key.pem", "ca.pem", "crl.pem"],
      async ({ current }, dir) => {
        const begin = async (port: number, where: string) =>
          startStandIn("gateway", join(dir, where), {
            port,
            takes: "watch-files",
            certificate: join(current, "fullchain.pem"),
            key: join(current, "key.pem"),
            ca: null,
            crl: null,
            watched: "",
          });
        const port = await freePort();
        const gateway = await begin(port, "first");
        return {
          port,
          settings: { reload: "watch" },
          // It has no check of its own: a second one has to start.
          assertStarts: async (after) => {
            const second = await begin(await freePort(), `after-${after}`);
            await second.stop();
          },
          stop: () => gateway.stop(),
        };
      },
      ["announced"],
    ),
  );
});
