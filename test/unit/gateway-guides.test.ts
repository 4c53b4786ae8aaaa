/** What the guides in docs/gateways tell people to write into agent.yml is what the agent takes. */
import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { parse, stringify } from "yaml";
import { parseConfig } from "../../agent-client/config/config.ts";

const directory = join(import.meta.dirname, "../../docs/gateways");
const guides = globSync("*.md", { cwd: directory }).filter((name) => name !== "README.md");
const index = readFileSync(join(directory, "README.md"), "utf8");

describe("the guides of gateways", () => {
  for (const guide of guides.toSorted()) {
    it(`${guide}: each certificate in it is one that the agent takes`, () => {
      const text = readFileSync(join(directory, guide), "utf8");
      const blocks = [...text.matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, block = ""]) => block);
      const configs = blocks.filter((block) => /^certificates:$/m.test(block) && /^ {2}- name: /m.test(block));
      assert.ok(configs.length > 0, "has no agent.yml");
      for (const block of configs) {
        const said = parse(block, { schema: "failsafe" }) as Readonly<Record<string, unknown>>;
        const services = { server: "https://ca.claw.internal:8443", enrollment: "https://ca.claw.internal:8444" };
        parseConfig(stringify({ ...services, ...said }, { schema: "failsafe" }), guide);
      }
    });

    it(`${guide}: the index leads to it`, () => {
      assert.ok(index.includes(`](${guide})`));
    });
  }
});
