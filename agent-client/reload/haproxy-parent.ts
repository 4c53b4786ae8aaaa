/**
 * A reload of HAProxy that needs no further setting: the worker that answers on the Runtime API knows its pid, and its parent is the
 * master, which USR2 reloads. The pid means something only where the agent sees HAProxy's processes.
 */
import { readFile } from "node:fs/promises";
import { performance } from "node:perf_hooks";
import { sleep } from "../wake.ts";
import { ask, socketProblem } from "./runtime-api.ts";
import { type PidSource, signalFound, whyNotSignal } from "./signal.ts";
import type { ParentReload, ReloadResult } from "./strategy.ts";

const wanted = { signal: "USR2", process: "haproxy" } as const;
const pollMs = 50;

/** Never throws. */
export async function reloadByParent(
  { socket, timeoutMs }: ParentReload,
  { signal }: { readonly signal?: AbortSignal | undefined },
): Promise<ReloadResult> {
  try {
    const wrong = await socketProblem(socket);
    if (wrong !== null) return { ok: false, detail: wrong };
    const before = await workerOf(socket, signal);
    const sent = await signalFound(wanted, masterOf(socket, signal));
    if (!sent.ok) return sent;
    const deadline = performance.now() + timeoutMs;
    while (performance.now() < deadline) {
      // Between two workers nobody may answer for a moment.
      const now = await workerOf(socket, signal).catch(() => before);
      if (now !== before) return { ok: true, detail: `${sent.detail}, new worker ${now}` };
      if (signal?.aborted === true) return { ok: false, detail: "the agent is stopping" };
      await sleep(pollMs, signal ?? new AbortController().signal);
    }
    return {
      ok: false,
      refused: true,
      detail: `${sent.detail}, and no new worker answers on ${socket} after ${timeoutMs / 1000} s: run haproxy -c -f with its configuration, and read its log`,
    };
  } catch (error) {
    return { ok: false, detail: error instanceof Error ? error.message : String(error) };
  }
}

export function describeParent(): string {
  return "kill -USR2 of its master";
}

export async function validateParent({ socket }: ParentReload): Promise<readonly string[]> {
  const why = await whyNotSignal(wanted, masterOf(socket, undefined));
  if (why === null) return [];
  return [`HAProxy's master is not found through ${socket} (${why}): run it with -W, or give \`reload\``];
}

function masterOf(socket: string, signal: AbortSignal | undefined): PidSource {
  return {
    of: `the parent of the worker at ${socket}`,
    async read() {
      const worker = await workerOf(socket, signal);
      const text = await readFile(`/proc/${worker}/stat`, "utf8").catch(() => "");
      // Field 2, the name, is in parentheses; then come the state and the parent's pid.
      const [, name, parent] = /^\d+ \((.*)\) \S (\d+) /s.exec(text) ?? [];
      if (name !== "haproxy")
        throw new Error(
          `pid ${worker} is not HAProxy here: its processes are not visible to the agent (another container?); give \`reload\`, for example { master: PATH }`,
        );
      return Number(parent);
    },
  };
}

/** @throws RuntimeApiError, Error when the answer names no pid */
async function workerOf(socket: string, signal: AbortSignal | undefined): Promise<number> {
  const pid = Number(/^Pid: (\d{1,10})$/m.exec(await ask(socket, ["show", "info"], { signal }))?.[1]);
  if (!Number.isSafeInteger(pid) || pid < 2) throw new Error(`${socket} does not say which process answers on it`);
  return pid;
}
