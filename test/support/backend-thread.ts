/** The server of backend.ts. Runs as a worker thread. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { parentPort, workerData } from "node:worker_threads";
import { startTicks } from "./web-socket-ticks.ts";

const { maxDelayMs } = workerData as { maxDelayMs: number };
// Whoever keeps a connection decides how long.
const server = createServer({ keepAliveTimeout: 0 }, (call, answer) => {
  call.resume();
  setTimeout(() => {
    answer.writeHead(200, { "Content-Type": "text/plain", "Content-Length": 3 });
    answer.end("ok\n");
  }, Math.random() * maxDelayMs);
});
server.on("upgrade", startTicks);
server.listen(0, "127.0.0.1");
await once(server, "listening");
parentPort?.postMessage((server.address() as AddressInfo).port);
