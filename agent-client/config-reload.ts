/** `reload` of one certificate in agent.yml. */
import { openSection, readArgv, readChoice, readPath, type Section } from "./config-section.ts";
import { defaultReloadTimeoutMs, reloadSignals, type ReloadStrategy } from "./reload/strategy.ts";

const strategies = ["systemd", "signal", "command", "touch"] as const;

export function readReload(parent: Section, problems: string[]): ReloadStrategy {
  const fallback: ReloadStrategy = { kind: "watch" };
  const value = parent.raw("reload");
  if (value === undefined) {
    parent.problem(
      "reload",
      `is missing and has no default; it is one of ${strategies.map((name) => `{ ${name}: … }`).join(", ")} or watch`,
    );
    return fallback;
  }
  if (value === "watch") return fallback;
  const section = openSection(value, `${parent.path}.reload`, [...strategies, "pidFile", "process"], problems);
  if (section === null) return fallback;
  const chosen = strategies.filter((name) => section.has(name));
  const [strategy] = chosen;
  if (strategy === undefined || chosen.length > 1) {
    parent.problem("reload", `must say exactly one of ${strategies.join(", ")}, or the word watch`);
    return fallback;
  }
  if (strategy !== "signal") {
    for (const key of ["pidFile", "process"]) if (section.has(key)) section.problem(key, "belongs to signal only");
  }
  return strategyOf(section, strategy);
}

function strategyOf(section: Section, name: (typeof strategies)[number]): ReloadStrategy {
  switch (name) {
    case "systemd":
      return { kind: "systemd", unit: section.required("systemd") ?? "", timeoutMs: defaultReloadTimeoutMs };
    case "command":
      return { kind: "command", argv: readArgv(section, "command") ?? [], timeoutMs: defaultReloadTimeoutMs };
    case "touch":
      return { kind: "touch", file: readPath(section, "touch") };
    case "signal":
      return {
        kind: "signal",
        signal: readChoice(section, "signal", reloadSignals, "HUP"),
        pidFile: readPath(section, "pidFile"),
        process: section.required("process") ?? "",
      };
  }
}
