import { join } from "node:path";
import { startNginx } from "./nginx.ts";
import type { StartGateway } from "./zero-drop.ts";

/** nginx with client certificates and CRLs in front of a backend, told by HUP to its master. */
export const byHup: StartGateway = async ({ dir, current, backendPort }) => {
  const nginx = await startNginx({
    dir,
    certificate: join(current, "fullchain.pem"),
    key: join(current, "key.pem"),
    clientCa: join(current, "ca.pem"),
    crl: join(current, "crl.pem"),
    upstream: `http://127.0.0.1:${backendPort}`,
  });
  const reload = { signal: "HUP", pidFile: nginx.pidFile, process: "nginx" };
  return { port: nginx.port, reload, stop: nginx.stop };
};
