import type { ReloadResult } from "./strategy.ts";

/** The server watches its files (OpenClaw from 2026.9.5, Prometheus exporters, Envoy's file SDS): the switch was all it needs. */
export async function reloadByWatch(): Promise<ReloadResult> {
  return { ok: true, detail: "the server watches its files" };
}

export function describeWatch(): string {
  return "watch (the server watches its files)";
}

export async function validateWatch(): Promise<readonly string[]> {
  return [];
}
