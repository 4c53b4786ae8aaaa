/** The server of backend.ts. Runs as a worker thread. */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { parentPort, workerData } from "node:worker_threads";

const { maxDelayMs } = workerData as { maxDelayMs: number };
const tickMs = 100;
/** RFC 6455 §1.3 */
const webSocketId = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/** One unmasked text frame, `tick` (RFC 6455 §5.2). */
const tick = Buffer.concat([Buffer.from([0x81, 4]), Buffer.from("tick")]);

// Whoever keeps a connection decides how long.
const server = createServer({ keepAliveTimeout: 0 }, (call, answer) => {
  call.resume();
  setTimeout(() => {
    answer.writeHead(200, { "Content-Type": "text/plain", "Content-Length": 3 });
    answer.end("ok\n");
  }, Math.random() * maxDelayMs);
});
server.on("upgrade", (call, socket) => {
  const key = call.headers["sec-websocket-key"] ?? "";
  const accept = createHash("sha1").update(`${key}${webSocketId}`).digest("base64");
  const lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"];
  socket.write(`${[...lines, `Sec-WebSocket-Accept: ${accept}`].join("\r\n")}\r\n\r\n`);
  const ticking = setInterval(() => socket.write(tick), tickMs);
  socket.on("error", () => socket.destroy());
  socket.on("close", () => clearInterval(ticking));
});
server.listen(0, "127.0.0.1");
await once(server, "listening");
parentPort?.postMessage((server.address() as AddressInfo).port);
