import { createHash } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";

const tickMs = 100;
/** RFC 6455 §1.3 */
const webSocketId = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/** One unmasked text frame, `tick` (RFC 6455 §5.2). */
const tick = Buffer.concat([Buffer.from([0x81, 4]), Buffer.from("tick")]);

/** For `upgrade` of an HTTP server: a WebSocket that ticks ten times a second until the other side goes. */
export function startTicks(call: IncomingMessage, socket: Duplex): void {
  const key = call.headers["sec-websocket-key"] ?? "";
  const accept = createHash("sha1").update(`${key}${webSocketId}`).digest("base64");
  const lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"];
  socket.write(`${[...lines, `Sec-WebSocket-Accept: ${accept}`].join("\r\n")}\r\n\r\n`);
  const ticking = setInterval(() => socket.write(tick), tickMs);
  socket.on("error", () => socket.destroy());
  socket.on("close", () => clearInterval(ticking));
}
