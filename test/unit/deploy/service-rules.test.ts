/** The alerts on the service: they name metrics and commands that there are, and come when they should, with promtool as the judge. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { parse, stringify } from "yaml";
import { createMetrics } from "../../../server/metrics.ts";
import { findProgram, needs } from "../../support/programs.ts";
import { type AlertCase, alertCases } from "./service-rules-cases.ts";
import { newleafCommands } from "../../support/command-names.ts";

const root = join(import.meta.dirname, "../../..");
const rulesFile = join(root, "deploy/prometheus/service-rules.yml");

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string; readonly description: string };
}

const { groups } = parse(readFileSync(rulesFile, "utf8")) as { groups: readonly { rules: readonly Rule[] }[] };
const rules = new Map(groups.flatMap((group) => group.rules).map((rule) => [rule.alert, rule]));

describe("the alerts on the service", () => {
  it("name only metrics that the service has", async () => {
    const text = await createMetrics("0.0.0").registry.metrics();
    for (const { alert, expr } of rules.values()) {
      const names = (expr.match(/newleaf_[a-z_]+/g) ?? []).map((name) => name.replace(/_bucket$/, ""));
      assert.ok(names.length > 0 || /\bup\b/.test(expr), alert);
      for (const name of names) assert.ok(text.includes(`# TYPE ${name} `), `${alert}: ${name}`);
    }
  });

  it("say how bad it is, and a command to run that exists", () => {
    const commands = newleafCommands();
    for (const { alert, labels, annotations } of rules.values()) {
      assert.match(labels.severity, /^(warning|critical)$/, alert);
      const named = [...annotations.description.matchAll(/newleaf ([a-z]+)(?: ([a-z-]+))?/g)];
      assert.ok(named.length > 0, `${alert} names no command`);
      for (const [, first = "", second = ""] of named) {
        const below = commands.get(first);
        const isKnown = below !== undefined && (below.size === 0 || below.has(second));
        assert.ok(isKnown, `${alert}: there is no \`newleaf ${first} ${second}\``);
      }
    }
  });

  it("have each a case", () => {
    assert.deepEqual(alertCases.map(({ alert }) => alert).toSorted(), [...rules.keys()].toSorted());
  });

  it("fire when they should and are quiet when they should", { skip: needs("promtool") }, () => {
    const promtool = findProgram("promtool") ?? "promtool";
    const dir = mkdtempSync(join(tmpdir(), "newleaf-rules-"));
    const run = (...args: string[]): string => execFileSync(promtool, args, { encoding: "utf8", stdio: "pipe" });
    try {
      run("check", "rules", rulesFile);
      const cases = alertCases.flatMap(casesOf);
      // Days, minute by minute, would take minutes.
      const paces = {
        "1m": cases.filter((one) => !takesLong(one)),
        "15m": cases.filter(takesLong),
      };
      for (const [pace, tests] of Object.entries(paces)) {
        const file = join(dir, `${pace}.yml`);
        writeFileSync(file, stringify({ rule_files: [rulesFile], evaluation_interval: pace, tests }, { lineWidth: 0 }));
        assert.match(run("test", "rules", file), /SUCCESS/);
      }
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});

interface Case {
  readonly alert_rule_test: readonly { readonly eval_time: string }[];
}

function takesLong({ alert_rule_test: looks }: Case): boolean {
  return looks.some(({ eval_time: time }) => Number(/^(\d+)h/.exec(time)?.[1] ?? 0) > 6);
}

function casesOf({ alert, fires, at, notYetAt, labels, value, quiet, quietAt = at }: AlertCase) {
  const rule = rules.get(alert);
  assert.ok(rule);
  const expected = {
    exp_labels: { ...labels, severity: rule.labels.severity },
    exp_annotations: {
      summary: fill(rule.annotations.summary, labels, value),
      description: fill(rule.annotations.description, labels, value),
    },
  };
  const silent = (time: string) => ({ eval_time: time, alertname: alert, exp_alerts: [] });
  return [
    {
      name: `${alert} fires`,
      interval: "1m",
      input_series: fires.map(toSeries),
      alert_rule_test: [
        { eval_time: at, alertname: alert, exp_alerts: [expected] },
        ...(notYetAt === undefined ? [] : [silent(notYetAt)]),
      ],
    },
    {
      name: `${alert} is quiet`,
      interval: "1m",
      input_series: quiet.map(toSeries),
      alert_rule_test: [silent(quietAt)],
    },
  ];
}

/** `name{labels} values`: the values begin after the first space outside the braces. */
function toSeries(text: string): { series: string; values: string } {
  const end = text.includes("}") ? text.indexOf("}") + 1 : text.indexOf(" ");
  return { series: text.slice(0, end), values: text.slice(end).trim() };
}

/** What Prometheus makes of an annotation's template. */
function fill(template: string, labels: Readonly<Record<string, string>>, value = ""): string {
  return template
    .replaceAll(/\{\{ \$labels\.(\w+) \}\}/g, (_, name: string) => labels[name] ?? "")
    .replaceAll(/\{\{ \$value(?: \| \w+)? \}\}/g, value);
}
