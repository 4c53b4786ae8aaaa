/** A TLS server that takes its files from a directory, as well or as badly as a test asks. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createSecureContext, createServer, type SecureContext } from "node:tls";
import { listen } from "./tls-server.ts";

/** `follow`: whatever is on disk. `stuck`: what it had when it was told so. `broken`: handshakes fail after a change of files. */
export type ProxyMode = "follow" | "stuck" | "broken";

export interface FileProxy {
  readonly connect: string;
  mode: ProxyMode;
  stop(): Promise<void>;
}

export async function startFileProxy(directory: string, port = 0): Promise<FileProxy> {
  const read = (): string => readFileSync(join(directory, "fullchain.pem"), "utf8");
  const load = (): SecureContext =>
    createSecureContext({ cert: read(), key: readFileSync(join(directory, "key.pem"), "utf8") });
  let loaded = { cert: read(), context: load() };
  const server = createServer({
    // Without a name in the handshake (an IP address was asked for) there is nothing else to present.
    key: readFileSync(join(directory, "key.pem")),
    cert: loaded.cert,
    SNICallback(_name, done) {
      if (proxy.mode === "broken" && read() !== loaded.cert) return done(new Error("broken"));
      if (proxy.mode === "follow" && read() !== loaded.cert) loaded = { cert: read(), context: load() };
      done(null, loaded.context);
    },
  });
  server.on("secureConnection", (socket) => {
    socket.on("error", () => undefined);
    socket.resume();
  });
  server.on("tlsClientError", () => undefined);
  const { port: bound, stop } = await listen(server, port);
  const proxy: FileProxy = { connect: `127.0.0.1:${bound}`, mode: "follow", stop };
  return proxy;
}
