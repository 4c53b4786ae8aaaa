/**
 * As much of RESP 2 as three commands need. A client library would do it too, with its pools and reconnections, on every host
 * that has an agent; this is a page, and it is bounded: a server that talks without end is not listened to.
 */
import { connect as connectTcp, type Socket } from "node:net";

export type Reply = string | number | null | readonly Reply[];

/** Redis said no: its own words. */
export class RedisRefusal extends Error {
  override readonly name = "RedisRefusal";
}

const maxReply = 64 * 1024;
const maxDepth = 4;

export interface Dialogue {
  /**
   * Sends one command. Every argument goes with its length before it, so none can become a command of its own.
   * @throws RedisRefusal when Redis answers with an error; Error when the connection ends or talks something else
   */
  ask(...command: readonly string[]): Promise<Reply>;
}

/** A dialogue over a connected socket; one command at a time. */
export function startDialogue(socket: Socket): Dialogue {
  let received = Buffer.alloc(0);
  let over: Error | null = null;
  let wake: () => void = () => undefined;
  socket.on("data", (chunk: Buffer) => {
    received = Buffer.concat([received, chunk]);
    wake();
  });
  const end = (error: Error): void => {
    over ??= error;
    wake();
  };
  socket.on("error", end);
  socket.once("close", () => end(new Error("the connection was closed")));
  return {
    async ask(...command) {
      received = Buffer.alloc(0);
      if (over === null) socket.write(encodeCommand(command));
      for (;;) {
        const reply = decodeReply(received);
        if (reply !== null) {
          if (reply.value instanceof RedisRefusal) throw reply.value;
          return reply.value;
        }
        if (received.length > maxReply) throw new Error("the answer is longer than 64 KiB");
        if (over !== null) throw over;
        await new Promise<void>((resolve) => (wake = resolve));
      }
    },
  };
}

/** An array of bulk strings. */
export function encodeCommand(command: readonly string[]): Buffer {
  const parts = command.map((argument) => `$${Buffer.byteLength(argument)}\r\n${argument}\r\n`);
  return Buffer.from(`*${command.length}\r\n${parts.join("")}`);
}

interface Decoded {
  readonly value: Reply | RedisRefusal;
  /** Where the next one begins. */
  readonly end: number;
}

/**
 * The reply at the beginning of `bytes`; null while it is not whole.
 * @throws Error when that is not RESP 2
 */
export function decodeReply(bytes: Buffer, from = 0, depth = 0): Decoded | null {
  if (from < bytes.length && !"+-:$*".includes(String.fromCharCode(bytes[from] ?? 0))) {
    throw new Error("the answer is not Redis's protocol");
  }
  const lineEnd = bytes.indexOf("\r\n", from);
  if (lineEnd < 0) return null;
  const [kind, text] = [bytes.toString("latin1", from, from + 1), bytes.toString("utf8", from + 1, lineEnd)];
  const end = lineEnd + 2;
  switch (kind) {
    case "+":
      return { value: text, end };
    case "-":
      return { value: new RedisRefusal(text), end };
    case ":":
      return { value: count(text), end };
    case "$":
      return decodeBulk(bytes, count(text), end);
    default:
      return decodeArray(bytes, count(text), end, depth);
  }
}

function decodeBulk(bytes: Buffer, length: number, from: number): Decoded | null {
  if (length < 0) return { value: null, end: from };
  const end = from + length + 2;
  return bytes.length < end ? null : { value: bytes.toString("utf8", from, from + length), end };
}

function decodeArray(bytes: Buffer, length: number, from: number, depth: number): Decoded | null {
  if (length < 0) return { value: null, end: from };
  if (depth >= maxDepth) throw new Error("the answer is nested too deeply");
  const items: Reply[] = [];
  let end = from;
  while (items.length < length) {
    const item = decodeReply(bytes, end, depth + 1);
    if (item === null) return null;
    if (item.value instanceof RedisRefusal) return item;
    items.push(item.value);
    end = item.end;
  }
  return { value: items, end };
}

function count(text: string): number {
  const number = /^-?\d{1,7}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isInteger(number) || number > maxReply)
    throw new Error("the answer is not Redis's protocol, or too long");
  return number;
}

/** Connects over TCP or a Unix socket. The socket is in `opened` before it is connected. @throws Error of the system */
export function connectTo(
  address: { socketPath: string } | { host: string; port: number },
  opened: Socket[],
): Promise<Socket> {
  const socket = "socketPath" in address ? connectTcp({ path: address.socketPath }) : connectTcp(address);
  opened.push(socket);
  return new Promise((resolve, reject) => {
    socket.once("connect", () => resolve(socket));
    // For as long as the socket lives: an error between two commands must not bring the agent down.
    socket.on("error", reject);
  });
}
