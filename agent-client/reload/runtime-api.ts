/**
 * HAProxy's Runtime API (management guide §9.3) and its master CLI (§9.4): one command on one connection to a Unix socket, as
 * `socat` would say it. The socket answers and closes.
 */
import { stat } from "node:fs/promises";
import { connect } from "node:net";
import { openToAll } from "./control-address.ts";

export interface AskOptions {
  /** Default 10 s. */
  readonly timeoutMs?: number;
  /** Ends the dialogue. */
  readonly signal?: AbortSignal | undefined;
  /** Says that no more will come, as `socat` does: a worker's socket answers one line and closes, the master's waits for that. */
  readonly shut?: boolean;
}

const defaultTimeoutMs = 10_000;
/** `show ssl ca-file` of the system's 145 roots takes some 60 kB. */
const maxAnswer = 1024 * 1024;
/** What ends a word, a command or a payload for HAProxy is in no word: white space, `;`, `\`, quotes, `<`, `#`, `$`. */
const word = /^[A-Za-z0-9@*/._%+:=,~-]{1,1024}$/;
/** sockaddr_un */
const maxSocketPath = 107;

/** There was no dialogue, or none to its end. `message` says what and what to do; it never holds what was sent. */
export class RuntimeApiError extends Error {
  override readonly name = "RuntimeApiError";
  /** The system's code, when the system said no. */
  readonly code: string | undefined;

  constructor(message: string, code?: string) {
    super(message);
    this.code = code;
  }
}

/** Whether a path can be said to HAProxy as it is. */
export function isSpeakable(path: string): boolean {
  return word.test(path);
}

/**
 * Says one command, and with `payload` (PEM) the lines that belong to it. The answer is what HAProxy said until it closed; it may
 * be empty: a worker whose buffer (`tune.bufsize`) the payload exceeds closes without a word, and so does a master that reloads.
 * @throws RuntimeApiError
 */
export async function ask(
  socketPath: string,
  words: readonly string[],
  { payload, ...options }: AskOptions & { readonly payload?: string } = {},
): Promise<string> {
  const command = words.join(" ");
  if (!words.every((one) => word.test(one)))
    throw new RuntimeApiError("a name has characters that HAProxy would read as something else: rename the file");
  if (Buffer.byteLength(socketPath) > maxSocketPath)
    throw new RuntimeApiError(`${socketPath} is longer than the path of a socket can be: choose a shorter one`);
  if (payload === undefined) return converse(socketPath, command, `${command}\n`, options);
  // An empty line ends the payload, and what follows would be commands.
  const lines = payload.split(/\r?\n/).filter((line) => line.trim() !== "");
  return converse(socketPath, command, `${command} <<\n${lines.join("\n")}\n\n`, options);
}

function converse(socketPath: string, command: string, text: string, options: AskOptions): Promise<string> {
  const { timeoutMs = defaultTimeoutMs, signal, shut = false } = options;
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const socket = connect(socketPath);
    const end = (error: Error | null): void => {
      clearTimeout(late);
      signal?.removeEventListener("abort", stop);
      socket.destroy();
      if (error === null) resolve(Buffer.concat(chunks).toString("utf8"));
      else reject(error);
    };
    const stop = (): void => end(new RuntimeApiError("the agent is stopping"));
    const late = setTimeout(
      () =>
        end(
          new RuntimeApiError(
            `no answer to "${command}" on ${socketPath} within ${timeoutMs / 1000} s: is it the socket that was meant, and does HAProxy still run?`,
          ),
        ),
      timeoutMs,
    );
    if (signal?.aborted === true) return stop();
    signal?.addEventListener("abort", stop, { once: true });
    socket.once("connect", () => (shut ? socket.end(text) : socket.write(text)));
    socket.on("data", (chunk: Buffer) => {
      size += chunk.length;
      chunks.push(chunk);
      if (size > maxAnswer) end(new RuntimeApiError(`the answer to "${command}" on ${socketPath} does not end`));
    });
    socket.once("end", () => end(null));
    socket.once("close", () => end(null));
    socket.on("error", (error: NodeJS.ErrnoException) => {
      // What it closes on while we still write is an answer too: what was said before counts.
      if (error.code === "EPIPE" || error.code === "ECONNRESET") end(null);
      else end(new RuntimeApiError(`${socketPath}: ${advice(error)}`, error.code));
    });
  });
}

/**
 * What keeps a socket from being trusted with a private key, or from being there; null when nothing does.
 */
export async function socketProblem(path: string): Promise<string | null> {
  try {
    if (!(await stat(path)).isSocket()) return `${path} is not a socket: name the one of \`stats socket\` or \`-S\``;
    const open = await openToAll(path);
    if (open !== null)
      return `anybody may put a socket into ${open}, and the private key goes through it: move the socket to a directory of HAProxy's own, such as /run/haproxy`;
    return null;
  } catch (error) {
    return `${path}: ${advice(error as NodeJS.ErrnoException)}`;
  }
}

function advice(error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case "ENOENT":
      return "there is no such socket: start HAProxy, or correct the path of the socket";
    case "ECONNREFUSED":
      return "nobody answers there: start HAProxy";
    case "EACCES":
    case "EPERM":
      return "the agent may not: give its user the socket (`stats socket … user … group … mode 660`) and its directory";
    default:
      return error.message;
  }
}
