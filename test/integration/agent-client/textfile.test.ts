/** The textfile as node_exporter itself reads it, with the age by which an agent that stopped is seen. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { passOnce } from "../../../agent-client/agent.ts";
import { enroll } from "../../../agent-client/request.ts";
import { nginxFiles, testHost } from "../../support/agent.ts";
import { accepts, freePort, startDaemon } from "../../support/processes.ts";
import { findProgram, needs } from "../../support/programs.ts";
import { startService } from "../../support/service.ts";

test(
  "node_exporter shows what the agent wrote, and how old it is",
  { skip: needs("prometheus-node-exporter"), timeout: 30_000 },
  async () => {
    await using service = await startService();
    const host = testHost(service, join(service.dir, "host"));
    const textfile = join(host.dir, "newleaf.prom");
    host.configure({ files: nginxFiles, reload: "watch", probe: "none" }, { textfile });
    {
      await using app = await host.open();
      const [agent] = app.agents;
      assert.ok(agent);
      await enroll(agent, await service.token("gateway-1"));
      await passOnce(agent, { force: false }, new AbortController().signal);
    }
    const port = await freePort();
    const exporter = startDaemon(findProgram("prometheus-node-exporter") ?? "", [
      "--collector.disable-defaults",
      "--collector.textfile",
      `--collector.textfile.directory=${host.dir}`,
      `--web.listen-address=127.0.0.1:${port}`,
    ]);
    try {
      assert.ok(await accepts(port, exporter), exporter.output());
      const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
      const value = (name: string): number => Number(new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1] ?? Number.NaN);
      assert.equal(value("node_textfile_scrape_error"), 0, exporter.output());
      assert.equal(value('newleaf_agent_served_matches\\{certificate="gateway"\\}'), 1);
      assert.ok(value('newleaf_agent_not_after_timestamp_seconds\\{certificate="gateway"\\}') * 1000 > Date.now());
      assert.ok(
        value('newleaf_agent_crl_next_update_timestamp_seconds\\{certificate="gateway"\\}') * 1000 > Date.now(),
      );
      // The label by which the alert on its age finds the file.
      const age = Date.now() / 1000 - value('node_textfile_mtime_seconds\\{file="[^"]*newleaf\\.prom"\\}');
      assert.ok(age >= -1 && age < 30, `${age} s old`);
    } finally {
      await exporter.stop();
    }
  },
);
