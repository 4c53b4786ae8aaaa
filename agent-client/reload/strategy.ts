/** How a server is told to take new files. There is no default: a wrong signal kills some servers. */
export type ReloadStrategy =
  | { readonly kind: "command"; readonly argv: readonly string[]; readonly timeoutMs: number }
  | { readonly kind: "systemd"; readonly unit: string; readonly timeoutMs: number }
  | { readonly kind: "signal"; readonly signal: ReloadSignal; readonly pidFile: string; readonly process: string }
  | { readonly kind: "touch"; readonly file: string }
  | { readonly kind: "watch" };

export const reloadSignals = ["HUP", "USR1", "USR2"] as const;
export type ReloadSignal = (typeof reloadSignals)[number];

export const defaultReloadTimeoutMs = 30_000;

/** `ok` says that the server was told, not that it listened: only a probe knows that. */
export interface ReloadResult {
  readonly ok: boolean;
  /** One line for logs and status. */
  readonly detail: string;
}

export interface ReloadContext {
  /** Aborting ends a running command. */
  readonly signal?: AbortSignal;
  /** Where programs named without a slash are looked for. */
  readonly searchPath?: string;
}

/** Tells the server. Never throws: what went wrong is in the result. */
export async function reload(strategy: ReloadStrategy, context: ReloadContext = {}): Promise<ReloadResult> {
  return { ok: false, detail: `not written yet ${strategy.kind} ${context.searchPath ?? ""}` };
}

/** A few words for status and logs: `systemctl reload nginx.service`. */
export function describe(strategy: ReloadStrategy): string {
  return strategy.kind;
}

/** What is wrong with the strategy on this host, one sentence each; empty when nothing is. Changes nothing. */
export async function validate(strategy: ReloadStrategy, context: ReloadContext = {}): Promise<readonly string[]> {
  return [`not written yet ${strategy.kind} ${context.searchPath ?? ""}`];
}
