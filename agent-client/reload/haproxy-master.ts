/** `reload` through HAProxy's master socket (`haproxy -W -S PATH`), and whether a new worker came of it. */
import { performance } from "node:perf_hooks";
import { sleep } from "../wake.ts";
import { ask, RuntimeApiError, socketProblem } from "./runtime-api.ts";
import type { MasterReload, ReloadResult } from "./strategy.ts";

const pollMs = 50;
/** While it starts itself anew, for a reload of somebody else's, the master refuses connections. */
const patienceMs = 2000;
/** What that looks like: no listener, no file, or a connection that ends without a word. */
const awayCodes: readonly (string | undefined)[] = ["ECONNREFUSED", "ENOENT", "ECONNRESET"];

/** What `show proc` says. */
interface Processes {
  readonly reloads: number;
  /** Since the last reload that succeeded. */
  readonly failed: number;
  /** Pids of the workers that were started since the last reload. */
  readonly workers: readonly number[];
}

/** Never throws. */
export async function reloadByMaster(
  { socket, timeoutMs }: MasterReload,
  { signal }: { readonly signal?: AbortSignal | undefined },
): Promise<ReloadResult> {
  const deadline = performance.now() + timeoutMs;
  try {
    const wrong = await socketProblem(socket);
    if (wrong !== null) return { ok: false, detail: wrong };
    const before = await patiently(socket, signal);
    // 2.7 and later answer when it is done; before, the master closes at once and starts itself anew.
    const answer = await ask(socket, ["reload"], { timeoutMs, signal, shut: true });
    if (/^Success=0/m.test(answer)) return refused(socket);
    for (;;) {
      const now = await look(socket, signal);
      if (now !== null && now.reloads > before.reloads) {
        if (now.failed > 0) return refused(socket);
        const fresh = now.workers.find((pid) => !before.workers.includes(pid));
        if (fresh !== undefined) return { ok: true, detail: `reloaded through ${socket}, new worker ${fresh}` };
      }
      if (signal?.aborted === true) return { ok: false, detail: "the agent is stopping" };
      if (performance.now() > deadline)
        return { ok: false, detail: `no new worker within ${timeoutMs / 1000} s of the reload: look at HAProxy's log` };
      await sleep(pollMs, signal ?? new AbortController().signal);
    }
  } catch (error) {
    return { ok: false, detail: error instanceof Error ? error.message : String(error) };
  }
}

export async function validateMaster({ socket }: MasterReload): Promise<readonly string[]> {
  const wrong = await socketProblem(socket);
  if (wrong !== null) return [wrong];
  try {
    await processes(socket, undefined);
    return [];
  } catch (error) {
    return [error instanceof Error ? error.message : String(error)];
  }
}

function refused(socket: string): ReloadResult {
  return {
    ok: false,
    refused: true,
    detail: `HAProxy refused the reload and keeps its old worker (${socket}, show proc: failed): run haproxy -c -f with its configuration, and read its log`,
  };
}

async function patiently(socket: string, signal: AbortSignal | undefined): Promise<Processes> {
  const deadline = performance.now() + patienceMs;
  for (;;) {
    const now = performance.now() < deadline ? await look(socket, signal) : await processes(socket, signal);
    if (now !== null) return now;
    await sleep(pollMs, signal ?? new AbortController().signal);
  }
}

/** Null while the master starts itself anew and does not answer. */
async function look(socket: string, signal: AbortSignal | undefined): Promise<Processes | null> {
  try {
    return await processes(socket, signal);
  } catch (error) {
    const isAway = error instanceof RuntimeApiError && awayCodes.includes(error.code);
    if (!isAway || signal?.aborted === true) throw error;
    return null;
  }
}

async function processes(socket: string, signal: AbortSignal | undefined): Promise<Processes> {
  const answer = await ask(socket, ["show", "proc"], { signal, shut: true });
  if (answer.trim() === "") throw new RuntimeApiError(`${socket} closes without an answer`, "ECONNRESET");
  const master = /^\d+\s+master\s+(\d+)(?:\s+\[failed: (\d+)\])?/m.exec(answer);
  if (master === null)
    throw new RuntimeApiError(`${socket} is not the socket of a HAProxy master: name the path given with -S`);
  const workers = [...answer.matchAll(/^(\d+)\s+worker\s+0\s/gm)].map(([, pid]) => Number(pid));
  return { reloads: Number(master[1]), failed: Number(master[2] ?? 0), workers };
}
