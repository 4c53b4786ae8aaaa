/** The alerts on the agents: they name metrics that there are, say what to do, and fire when they should, with promtool as the judge. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { parse } from "yaml";
import { renderMetrics } from "../../../agent-client/metrics.ts";
import { findProgram, needs } from "../../support/programs.ts";

const root = join(import.meta.dirname, "../../..");
const rulesFile = join(root, "deploy/prometheus/agent-rules.yml");
const testFiles = ["agent-rules.yml", "agent-rules-days.yml"].map((name) =>
  join(root, "test/fixtures/prometheus", name),
);

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string; readonly description: string };
}

const { groups } = parse(readFileSync(rulesFile, "utf8")) as { groups: readonly { rules: readonly Rule[] }[] };
const rules = groups.flatMap((group) => group.rules);

describe("the alerts on agents", () => {
  it("name only metrics that the agent has", () => {
    const text = renderMetrics([
      {
        name: "gateway",
        notAfter: 1,
        servedMatches: true,
        reloadPending: false,
        crlNextUpdate: 1,
        canary: { good: true, revoked: true },
        attempts: {},
      },
    ]);
    for (const { alert, expr } of rules) {
      const names = expr.match(/newleaf_[a-z_]+/g) ?? [];
      assert.ok(names.length > 0 || /\bup\b|node_textfile_mtime_seconds/.test(expr), alert);
      for (const name of names)
        assert.ok(text.includes(`\n# TYPE ${name} `) || text.includes(`# TYPE ${name} `), `${alert}: ${name}`);
      for (const [, outcome] of expr.matchAll(/outcome="([^"]*)"/g))
        assert.ok(text.includes(`outcome="${outcome}"`), alert);
    }
  });

  it("say how bad it is, whom it concerns, and what to do", () => {
    for (const { alert, labels, annotations } of rules) {
      assert.match(labels.severity, /^(warning|critical)$/, alert);
      assert.match(annotations.summary, /\{\{ \$labels\.instance \}\}/, alert);
      assert.match(annotations.description, /newleaf(-agent)? [a-z]|systemctl|\?/, alert);
    }
  });

  it("have each a test", () => {
    const tested = testFiles.map((file) => readFileSync(file, "utf8")).join("");
    for (const { alert } of rules) {
      const fires = new RegExp(`alertname: ${alert}\\n\\s+exp_alerts:\\n\\s+- exp_labels`);
      assert.match(tested, fires, `${alert} is never seen to fire`);
      assert.ok(tested.includes(`alertname: ${alert}, exp_alerts: []`), `${alert} is never seen to be silent`);
    }
  });

  it("are accepted by promtool, and come when they should", { skip: needs("promtool") }, () => {
    const promtool = findProgram("promtool") ?? "promtool";
    const run = (...args: string[]): string => execFileSync(promtool, args, { encoding: "utf8", stdio: "pipe" });
    assert.match(run("check", "rules", rulesFile), new RegExp(`SUCCESS: ${rules.length} rules found`));
    for (const file of testFiles) assert.match(run("test", "rules", file), /SUCCESS/);
  });
});
