/** Which driver tells which kind of server. */
import { describeCaddy, reloadByCaddy, validateCaddy } from "./caddy.ts";
import { describeCommand, reloadByCommand, validateCommand } from "./command.ts";
import { describeHaproxy, reloadByHaproxy, validateHaproxy } from "./haproxy.ts";
import { describeRedis, reloadByRedis, validateRedis } from "./redis.ts";
import { describeSignal, reloadBySignal, validateSignal } from "./signal.ts";
import { describeSystemd, reloadBySystemd, validateSystemd } from "./systemd.ts";
import { describeTouch, reloadByTouch, validateTouch } from "./touch.ts";
import { describeWatch, reloadByWatch, validateWatch } from "./watch.ts";
import { everything, type ReloadContext, type ReloadResult, type ReloadStrategy } from "./strategy.ts";

/** Tells the server. Never throws: what went wrong is in the result. May be repeated. */
export async function reload(strategy: ReloadStrategy, context: ReloadContext = {}): Promise<ReloadResult> {
  switch (strategy.kind) {
    case "command":
      return reloadByCommand(strategy, context);
    case "systemd":
      return reloadBySystemd(strategy, context);
    case "signal":
      return reloadBySignal(strategy);
    case "haproxy":
      return reloadByHaproxy(strategy, { change: everything, ...context });
    case "touch":
      return reloadByTouch(strategy);
    case "caddy":
      return reloadByCaddy(strategy, context);
    case "redis":
      return reloadByRedis(strategy, context);
    case "watch":
      return reloadByWatch();
  }
}

/** A few words for status and logs: `systemctl reload nginx.service`. */
export function describe(strategy: ReloadStrategy): string {
  switch (strategy.kind) {
    case "command":
      return describeCommand(strategy);
    case "systemd":
      return describeSystemd(strategy);
    case "signal":
      return describeSignal(strategy);
    case "haproxy":
      return describeHaproxy(strategy);
    case "touch":
      return describeTouch(strategy);
    case "caddy":
      return describeCaddy(strategy);
    case "redis":
      return describeRedis(strategy);
    case "watch":
      return describeWatch();
  }
}

/** What is wrong with the strategy on this host now, one sentence each; empty when nothing is. Tells no server anything. */
export async function validate(strategy: ReloadStrategy, context: ReloadContext = {}): Promise<readonly string[]> {
  switch (strategy.kind) {
    case "command":
      return validateCommand(strategy, context);
    case "systemd":
      return validateSystemd(strategy, context);
    case "signal":
      return validateSignal(strategy);
    case "haproxy":
      return validateHaproxy(strategy, context);
    case "touch":
      return validateTouch(strategy);
    case "caddy":
      return validateCaddy(strategy, context);
    case "redis":
      return validateRedis(strategy, context);
    case "watch":
      return validateWatch();
  }
}
