/** What stands beside the rules: configuration of Prometheus and Alertmanager, the dashboard, and the guide to them. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { parse } from "yaml";
import { dashboardQueries } from "../../support/dashboard.ts";
import { findProgram, needs } from "../../support/programs.ts";

const root = join(import.meta.dirname, "../../..");
const read = (path: string): string => readFileSync(join(root, path), "utf8");

interface Rules {
  readonly groups: readonly { readonly rules: readonly { readonly alert: string }[] }[];
}

const alerts = ["service-rules.yml", "agent-rules.yml"].flatMap((name) =>
  (parse(read(`deploy/prometheus/${name}`)) as Rules).groups.flatMap(({ rules }) => rules.map(({ alert }) => alert)),
);

describe("monitoring as it is shipped", () => {
  it("has configurations that Prometheus and Alertmanager accept", { skip: needs("promtool", "amtool") }, () => {
    const run = (program: string, ...args: string[]): string =>
      execFileSync(findProgram(program) ?? program, args, { cwd: root, encoding: "utf8", stdio: "pipe" });
    run("promtool", "check", "config", "deploy/prometheus/prometheus.yml");
    run("amtool", "check-config", "deploy/alertmanager/alertmanager.yml");
    const route = (...labels: string[]): string =>
      run("amtool", "config", "routes", "test", "--config.file=deploy/alertmanager/alertmanager.yml", ...labels).trim();
    assert.equal(route("severity=critical", "alertname=NewleafDown"), "pager");
    assert.equal(route("severity=warning", "alertname=NewleafBackupOld"), "tickets");
  });

  it("inhibits and routes only alerts that there are", () => {
    const { inhibit_rules: inhibitions } = parse(read("deploy/alertmanager/alertmanager.yml")) as {
      inhibit_rules: readonly { source_matchers: readonly string[]; target_matchers: readonly string[] }[];
    };
    const named = inhibitions.flatMap(({ source_matchers: sources, target_matchers: targets }) =>
      [...sources, ...targets].flatMap((matcher) => /alertname=~?"([^"]+)"/.exec(matcher)?.[1]?.split("|") ?? []),
    );
    assert.ok(named.length > 15);
    assert.deepEqual(
      named.filter((name) => !alerts.includes(name)),
      [],
    );
  });

  it("has a dashboard whose panels overlap nowhere and say what they are", () => {
    const { panels } = JSON.parse(read("deploy/grafana/dashboards/newleaf.json")) as {
      panels: readonly {
        id: number;
        type: string;
        title: string;
        description?: string;
        gridPos: { x: number; y: number; w: number; h: number };
      }[];
    };
    assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
    const taken = new Map<string, string>();
    for (const { title, type, description, gridPos } of panels) {
      if (type !== "row") assert.ok((description ?? "").length > 10, `${title} has no description`);
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x += 1) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y += 1) {
          assert.equal(taken.get(`${x},${y}`), undefined, `${title} lies over ${taken.get(`${x},${y}`)}`);
          taken.set(`${x},${y}`, title);
        }
      }
    }
    assert.ok(dashboardQueries().length > 25);
  });

  it("is explained, alert by alert", () => {
    const guide = read("docs/monitoring.md");
    for (const alert of alerts)
      assert.match(guide, new RegExp(`^\\| \`${alert}\` \\|`, "m"), `${alert} is not in the guide`);
    const explained = [...guide.matchAll(/^\| `(Newleaf\w+)` \|/gm)].map(([, name = ""]) => name);
    assert.deepEqual(explained.toSorted(), alerts.toSorted());
  });
});
