import { join } from "node:path";
import { startHaproxy } from "./haproxy.ts";
import type { StartGateway } from "./zero-drop.ts";

/** HAProxy with client certificates and CRLs in front of a backend, told through its Runtime API. */
export const bySocket: StartGateway = async ({ dir, current, backendPort }) => {
  const haproxy = await start(dir, current, backendPort, false);
  const reload = { haproxy: { socket: haproxy.socket, reload: { master: haproxy.masterSocket } } };
  return { port: haproxy.port, reload, stop: haproxy.stop };
};

/** The same, told by USR2 to its master, with `option idle-close-on-response`. */
export const byReload: StartGateway = async ({ dir, current, backendPort }) => {
  const haproxy = await start(dir, current, backendPort, true);
  const reload = { signal: "USR2", pidFile: haproxy.pidFile, process: "haproxy" };
  return { port: haproxy.port, reload, stop: haproxy.stop };
};

function start(dir: string, current: string, backendPort: number, closesIdleLate: boolean) {
  return startHaproxy({
    dir,
    combined: join(current, "combined.pem"),
    clientCa: join(current, "ca.pem"),
    crl: join(current, "crl.pem"),
    sockets: "admin",
    backendPort,
    closesIdleLate,
  });
}
