/** `probe` of one certificate in agent.yml. */
import { openSection, readChoice, type Section } from "./config-section.ts";
import { type ProbeTarget, startTlsProtocols } from "./probe.ts";

export interface ProbeConfig extends ProbeTarget {
  /** How long a reload may take to show. */
  readonly timeoutMs: number;
}

export const defaultProbeTimeoutMs = 15_000;

export function readProbes(section: Section, problems: string[]): readonly ProbeConfig[] {
  const value = section.raw("probe");
  if (value === undefined) {
    section.problem("probe", "is missing; say where the certificate is served, or none");
    return [];
  }
  if (value === "none") return [];
  const list: readonly unknown[] = Array.isArray(value) ? value : [value];
  if (list.length === 0) section.problem("probe", "must name at least one address, or be the word none");
  return list.map((item, at) =>
    readProbe(item, Array.isArray(value) ? `${section.path}.probe[${at}]` : `${section.path}.probe`, problems),
  );
}

function readProbe(value: unknown, path: string, problems: string[]): ProbeConfig {
  const section = openSection(value, path, ["connect", "serverName", "timeout", "startTls"], problems);
  if (section === null) return { connect: "", serverName: "", timeoutMs: defaultProbeTimeoutMs };
  const connect = section.required("connect") ?? "";
  const port = Number(/^(?:\[[0-9a-fA-F:.]+\]|[^:[\]\s]+):(\d{1,5})$/.exec(connect)?.[1] ?? "0");
  if (connect !== "" && (port < 1 || port > 65_535))
    section.problem("connect", `must be host:port or [address]:port, not "${connect}"`);
  const timeoutMs = section.duration("timeout", defaultProbeTimeoutMs);
  if (timeoutMs < 1000 || timeoutMs > 600_000) section.problem("timeout", "must lie between 1s and 10m");
  const probe = { connect, serverName: section.required("serverName") ?? "", timeoutMs };
  return section.has("startTls")
    ? { ...probe, startTls: readChoice(section, "startTls", startTlsProtocols, "postgres") }
    : probe;
}
