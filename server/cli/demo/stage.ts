import type { Environment } from "../../config.ts";
import type { Terminal } from "../terminal.ts";
import type { DemoEvent } from "./events.ts";
import type { DemoFailure } from "./failure.ts";

/** What every part of the demo stands on. */
export interface Stage {
  /** The temporary directory, 0700; everything is in it. */
  readonly dir: string;
  /** For the programs the demo starts: nothing of the caller's Newleaf settings is in it. */
  readonly env: Environment;
  readonly terminal: Terminal;
  /** Aborted, with the reason, when the demo has to end. */
  readonly signal: AbortSignal;
  /** Something did not hold: the demo ends with it. */
  readonly fail: (failure: DemoFailure) => void;
  readonly tell: (event: DemoEvent) => void;
}
