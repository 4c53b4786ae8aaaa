import type { Target } from "../install/target.ts";

/** The program's argv; no shell ever sees it. */
export interface CommandStrategy {
  readonly kind: "command";
  readonly argv: readonly string[];
  readonly timeoutMs: number;
}

/** `systemctl reload UNIT`: runs outside the agent's sandbox, and the unit's own check runs first. */
export interface SystemdStrategy {
  readonly kind: "systemd";
  readonly unit: string;
  readonly timeoutMs: number;
}

/** A signal to the process of a pid file, after checking that it is the one meant. */
export interface SignalStrategy {
  readonly kind: "signal";
  readonly signal: ReloadSignal;
  readonly pidFile: string;
  /** What the process must be: its name (`nginx`) or the absolute path of its executable. */
  readonly process: string;
}

/** Rewrites a file that the server watches (Traefik's dynamic configuration), so that it looks again. */
export interface TouchStrategy {
  readonly kind: "touch";
  readonly file: string;
}

/** Caddy's admin API, forced. */
export interface CaddyStrategy {
  readonly kind: "caddy";
  /** `host:port` of the loopback interface, or the path of a Unix socket, perhaps after `unix/`. */
  readonly admin: string;
  /** The configuration file to load; null: what Caddy runs with. */
  readonly config: string | null;
  readonly timeoutMs: number;
}

/** `CONFIG SET` of Redis's TLS files to the paths they have. */
export interface RedisStrategy {
  readonly kind: "redis";
  /** `host:port`, or the path of a Unix socket. Without `tls` the password stays on this host. */
  readonly connect: string;
  /** ACL user; null: Redis's default user. */
  readonly user: string | null;
  /** Its first line is the password; null: none is needed. */
  readonly passwordFile: string | null;
  /** With it: TLS, the installed leaf as client certificate; the server is verified with the installed CAs for this name. */
  readonly tls: { readonly serverName: string } | null;
  readonly timeoutMs: number;
}

/** The Runtime API of HAProxy, and a reload for what it cannot do. */
export interface HaproxyStrategy {
  readonly kind: "haproxy";
  /** Path of a `stats socket` of level admin. */
  readonly socket: string;
  /** Null, never: only where neither CA file nor CRL is kept, which need a reload now and then. */
  readonly reload: SystemdStrategy | SignalStrategy | MasterReload | ParentReload | null;
  /** The files' names in haproxy.cfg; null: where `current`, `links` and `copies` have them. */
  readonly certificate: string | null;
  readonly caFile: string | null;
  readonly crlFile: string | null;
}

/** `reload` through the socket of HAProxy's master (`haproxy -W -S PATH`). */
export interface MasterReload {
  readonly kind: "master";
  /** Path of the master's socket. */
  readonly socket: string;
  /** For the new worker to have read its configuration. */
  readonly timeoutMs: number;
}

/** USR2 to the parent of the worker that answers on the Runtime API. */
export interface ParentReload {
  readonly kind: "parent";
  /** The worker's `stats socket`. */
  readonly socket: string;
  /** For a new worker to answer in the place of the old one. */
  readonly timeoutMs: number;
}

/** Nothing to do: the server watches its files. */
export interface WatchStrategy {
  readonly kind: "watch";
}

/** How a server is told to take new files. There is no default: a signal that reloads one server kills another. */
export type ReloadStrategy =
  | CommandStrategy
  | SystemdStrategy
  | SignalStrategy
  | TouchStrategy
  | WatchStrategy
  | HaproxyStrategy
  | CaddyStrategy
  | RedisStrategy;

export const reloadSignals = ["HUP", "USR1", "USR2"] as const;
export type ReloadSignal = (typeof reloadSignals)[number];

export const defaultReloadTimeoutMs = 30_000;

/** `ok` says that the server was told, not that it listened: only a probe knows that. */
export interface ReloadResult {
  readonly ok: boolean;
  /**
   * With `ok: false`: it was the server that said no, after it had looked at what it should load. Absent: it may as well be that
   * it could not be told (no such unit, no answer, no such process), which says nothing of the files.
   */
  readonly refused?: boolean;
  /** One line for logs and status: what was done, or what went wrong and what to do. */
  readonly detail: string;
}

/** What the server has to load, and what of it is news: some servers can be told through a socket, but not of everything. */
export interface Change {
  /** The leaf and its key. */
  readonly leaf: boolean;
  /** Roots or issuing CAs. */
  readonly trust: boolean;
  /** The CRLs revoke something that the loaded ones did not: sessions that could resume have to go. */
  readonly revoked: boolean;
  /** The CRLs are newer, whatever they revoke. */
  readonly crls: boolean;
}

/** Nothing is known of what the server has loaded. */
export const everything: Change = Object.freeze({ leaf: true, trust: true, revoked: true, crls: true });

export interface ReloadContext {
  /** What is installed, for strategies that hand paths or bytes to the server; `current` holds the set. */
  readonly target?: Target;
  /** What is news to the server; default: everything. */
  readonly change?: Change;
  /** Aborting ends a running command. */
  readonly signal?: AbortSignal;
  /** Where programs named without a slash are looked for; default: the system's places, sbin too. */
  readonly searchPath?: string;
}
