import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { appendFileSync, readFileSync, statSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { describe, it } from "node:test";
import { findCheckpoint } from "../../../../server/audit-checkpoint.ts";
import { checkpointFile } from "../../../../server/off-box/checkpoint-file.ts";
import { checkpointSyslog } from "../../../../server/off-box/checkpoint-syslog.ts";
import { temporaryDirectory } from "../../../support/temporary-directory.ts";

const directory = temporaryDirectory("off-box");
const at = Date.UTC(2026, 10, 20, 3, 17);
const line = `{"version":1,"seq":5,"hash":"${"0".repeat(64)}","at":"2026-11-20T03:17:00.000Z","issuer":"00","signature":"AA=="}`;

/** RFC 5424 §6: PRI VERSION TIMESTAMP HOSTNAME APP-NAME PROCID MSGID STRUCTURED-DATA MSG. */
const message = /^<109>1 2026-11-20T03:17:00\.000Z [\x21-\x7e]{1,255} newleaf \d{1,128} audit-checkpoint - (\{.*\})$/;

describe("checkpoints in a file", () => {
  it("are appended, 0600, and begin a new line after one that was torn", async () => {
    const path = join(directory, "checkpoints");
    const target = checkpointFile(path);
    await target.deliver("one", at);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    await target.deliver("two", at);
    appendFileSync(path, '{"version":1,"se');
    await target.deliver("three", at);
    assert.equal(readFileSync(path, "utf8"), 'one\ntwo\n{"version":1,"se\nthree\n');
  });

  it("are refused where the directory is not there: a share that is not mounted", async () => {
    await assert.rejects(checkpointFile(join(directory, "gone", "checkpoints")).deliver(line, at), { code: "ENOENT" });
  });
});

describe("checkpoints by syslog", () => {
  it("are one RFC 5424 message in a datagram", async () => {
    const socket = createSocket("udp4");
    socket.bind(0, "127.0.0.1");
    await once(socket, "listening");
    const received = once(socket, "message");
    await checkpointSyslog(`udp://127.0.0.1:${socket.address().port}`).deliver(line, at);
    const [bytes] = (await received) as [Buffer];
    socket.close();
    assert.equal(message.exec(bytes.toString("utf8"))?.[1], line);
    assert.equal(findCheckpoint(bytes.toString("utf8"))?.seq, 5);
  });

  it("are octet-counted over TCP (RFC 6587)", async () => {
    const parts: Buffer[] = [];
    const server = createServer((socket) =>
      socket.on("data", (part) => parts.push(part)).on("end", () => socket.end()),
    );
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const target = checkpointSyslog(`tcp://127.0.0.1:${(server.address() as AddressInfo).port}`);
    await target.deliver(line, at);
    await target.deliver(line, at);
    server.close();
    let text = Buffer.concat(parts).toString("utf8");
    for (const _ of [1, 2]) {
      const [, count = ""] = /^(\d+) /.exec(text) ?? [];
      const whole = text.slice(count.length + 1, count.length + 1 + Number(count));
      assert.equal(message.exec(whole)?.[1], line);
      text = text.slice(count.length + 1 + Number(count));
    }
    assert.equal(text, "");
  });

  it("fail when nobody listens", async () => {
    const server = createServer();
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    server.close();
    await once(server, "close");
    await assert.rejects(checkpointSyslog(`tcp://127.0.0.1:${port}`).deliver(line, at), { code: "ECONNREFUSED" });
  });
});
