import { readFileSync } from "node:fs";
import { join } from "node:path";

export interface DashboardQuery {
  readonly panel: string;
  readonly expr: string;
}

/** Every query of the shipped dashboard, for all services and all agents. */
export function dashboardQueries(): readonly DashboardQuery[] {
  const file = join(import.meta.dirname, "../../deploy/grafana/dashboards/newleaf.json");
  const { panels } = JSON.parse(readFileSync(file, "utf8")) as {
    panels: readonly { title: string; targets?: readonly { expr: string }[] }[];
  };
  return panels.flatMap(({ title, targets = [] }) =>
    targets.map(({ expr }) => ({ panel: title, expr: expr.replaceAll(/\$(instance|agent)/g, ".*") })),
  );
}
