/** kill -9 of the agent between every two steps of its journal, behind real nginx. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { nginxFiles } from "../../support/agent.ts";
import { killBetweenAllSteps } from "../../support/killed-agent.ts";
import { startNginx } from "../../support/nginx.ts";
import { needs } from "../../support/programs.ts";

test(
  "killed between any two steps of its journal the agent leaves a whole set, nginx starts from it, and the renewal completes",
  { skip: needs("nginx"), timeout: 240_000 },
  () =>
    killBetweenAllSteps(
      nginxFiles,
      async ({ current }, dir) => {
        const nginx = await startNginx({
          dir,
          certificate: join(current, "fullchain.pem"),
          key: join(current, "key.pem"),
          clientCa: join(current, "ca.pem"),
          crl: join(current, "crl.pem"),
        });
        return {
          port: nginx.port,
          settings: {
            reload: { signal: "HUP", pidFile: nginx.pidFile, process: "nginx" },
            check: ["nginx", "-t", "-q", "-c", nginx.config],
            beforeSwitch: { command: ["true"], wait: "0s" },
          },
          assertStarts: (after) => assert.ok(nginx.check().ok, `nginx -t after ${after}`),
          stop: () => nginx.stop(),
        };
      },
      [],
    ),
);
