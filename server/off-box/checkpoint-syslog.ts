/** Checkpoints as syslog messages: RFC 5424, over UDP (RFC 5426) or TCP with octet counting (RFC 6587 §3.4.1). */
import { createSocket } from "node:dgram";
import { connect } from "node:net";
import { hostname } from "node:os";
import type { CheckpointTarget } from "../authority/audit/checkpoint.ts";

/** Facility 13 (log audit), severity 5 (notice): RFC 5424 §6.2.1. */
const priority = 13 * 8 + 5;
const timeoutMs = 5_000;

/**
 * `url` as in `audit.checkpoints.syslog`: `udp://host:514`, `tcp://host:601`. Syslog acknowledges nothing: over UDP delivered means
 * sent, over TCP that the other side took the bytes and closed in turn.
 */
export function checkpointSyslog(url: string): CheckpointTarget {
  const { protocol, hostname: host, port } = new URL(url);
  const address = { host: host.replace(/^\[|\]$/g, ""), port: Number(port) };
  const send = protocol === "tcp:" ? sendOverTcp : sendOverUdp;
  return { name: "syslog", deliver: (line, at) => send(address, Buffer.from(syslogMessage(line, at), "utf8")) };
}

/** HEADER SP STRUCTURED-DATA SP MSG (RFC 5424 §6). The line is ASCII: no byte order mark is needed. */
export function syslogMessage(line: string, at: number): string {
  const host = hostname()
    .replaceAll(/[^\x21-\x7e]/g, "")
    .slice(0, 255);
  const header = `<${priority}>1 ${new Date(at).toISOString()} ${host === "" ? "-" : host} newleaf ${process.pid} audit-checkpoint`;
  return `${header} - ${line}`;
}

interface HostAndPort {
  readonly host: string;
  readonly port: number;
}

function sendOverUdp({ host, port }: HostAndPort, message: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
    const done = (error: Error | null): void => {
      socket.close();
      if (error === null) resolve();
      else reject(error);
    };
    socket.once("error", done);
    socket.send(message, port, host, done);
  });
}

function sendOverTcp({ host, port }: HostAndPort, message: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port });
    socket.setTimeout(timeoutMs, () => socket.destroy(new Error(`no answer within ${timeoutMs / 1000}s`)));
    socket.once("error", reject);
    socket.once("close", (hadError) => {
      if (!hadError) resolve();
    });
    socket.once("connect", () => socket.end(Buffer.concat([Buffer.from(`${message.length} `), message])));
    // Nothing is expected, but unread data would keep the end from being seen.
    socket.resume();
  });
}
