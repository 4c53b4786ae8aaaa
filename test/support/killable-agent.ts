/**
 * One pass of the agent as a process of its own that kills itself (SIGKILL, no cleanup) at a given checkpoint of the journal.
 *
 *   node killable-agent.ts CONFIG COUNT force|resume
 *
 * COUNT: the how-manieth checkpoint is the last (0: none). The last line of stdout names the checkpoints that were passed.
 */
import { writeSync } from "node:fs";
import { passOnce } from "../../agent-client/agent.ts";
import { openAgent } from "../../agent-client/app.ts";
import { loadConfig } from "../../agent-client/config/config.ts";

const [config = "", count = "0", mode] = process.argv.slice(2);
const last = Number(count);
let passed = 0;

await using app = await openAgent(
  loadConfig(config),
  { purpose: "test", name: null },
  {
    checkpoint(name) {
      passed += 1;
      writeSync(1, `${name}\n`);
      if (passed === last) process.kill(process.pid, "SIGKILL");
    },
  },
);
for (const agent of app.agents) {
  const { failed, renewed } = await passOnce(agent, { force: mode === "force" }, new AbortController().signal);
  const { step, next } = agent.journal.state;
  writeSync(1, `${JSON.stringify({ failed, renewed, step, pending: next !== null })}\n`);
}
