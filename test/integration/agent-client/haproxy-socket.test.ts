/** The driver of HAProxy's Runtime API against the real HAProxy, whatever it may be told and whatever it may answer. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { connect as connectTls, type SecureContextOptions } from "node:tls";
import type { HaproxyStrategy } from "../../../agent-client/reload/strategy.ts";
import { ask } from "../../../agent-client/reload/runtime-api.ts";
import { reload, validate } from "../../../agent-client/reload/drivers.ts";
import type { Change, ReloadResult } from "../../../agent-client/reload/strategy.ts";
import { fingerprint } from "../../../shared/fingerprint.ts";
import { until } from "../../support/agent.ts";
import { startHaproxy, type Haproxy, type HaproxyOptions } from "../../support/haproxy.ts";
import { getOnce } from "../../support/https-client.ts";
import { needs } from "../../support/programs.ts";
import { temporaryDirectory } from "../../support/temporary-directory.ts";
import { certificatePem, crlPem, keyPem, makeRoot, makeTestCa, type TestLeaf } from "../../support/test-ca.ts";

const nothing: Change = { leaf: false, trust: false, revoked: false, crls: false };

describe("HAProxy through its Runtime API", { skip: needs("haproxy", "openssl") }, () => {
  const directory = temporaryDirectory("haproxy-socket");
  const pki = makeTestCa(directory);
  const other = makeRoot(join(directory), "Another Root");
  const stops: (() => Promise<void>)[] = [];
  after(async () => {
    for (const stop of stops) await stop();
  });

  const combined = (leaf: TestLeaf): string =>
    keyPem(leaf.key) + certificatePem(leaf.certificate, pki.intermediate.certificate);
  const cas = certificatePem(pki.root.certificate, pki.intermediate.certificate);
  const crls = (...revoked: string[]): string =>
    crlPem(pki.root.crl(), pki.intermediate.crl({ number: crlNumber++, revoked }));
  let crlNumber = 1;
  const client = (leaf: TestLeaf) => ({ leaf, chain: [pki.intermediate.certificate] });
  const newClient = (): TestLeaf => pki.intermediate.issue({ extendedKeyUsage: ["clientAuth"] });

  /** A HAProxy, and the directory that its files are installed in. */
  const start = async (name: string, options: Partial<HaproxyOptions> = {}) => {
    const home = join(directory, name);
    const current = join(home, "current");
    mkdirSync(current, { recursive: true });
    const put = (files: Readonly<Record<string, string>>): void => {
      for (const [file, text] of Object.entries(files)) writeFileSync(join(current, file), text, { mode: 0o600 });
    };
    const first = pki.intermediate.issue();
    put({ "combined.pem": combined(first), "ca.pem": cas, "crl.pem": crls() });
    const haproxy = await startHaproxy({
      dir: join(home, "haproxy"),
      combined: join(current, "combined.pem"),
      clientCa: join(current, "ca.pem"),
      crl: join(current, "crl.pem"),
      sockets: "admin",
      ...options,
    });
    stops.push(haproxy.stop);
    const target = {
      directory: home,
      files: ["combined.pem", "ca.pem", "crl.pem"],
      owner: null,
      group: null,
      mode: 0o600,
      links: {},
    } as const;
    const strategy: HaproxyStrategy = {
      kind: "haproxy",
      socket: haproxy.socket,
      reload: { kind: "master", socket: haproxy.masterSocket, timeoutMs: 10_000 },
      certificate: null,
      caFile: null,
      crlFile: null,
    };
    const tell = (change: Partial<Change>, how: Partial<HaproxyStrategy> = {}): Promise<ReloadResult> =>
      reload({ ...strategy, ...how }, { target, change: { ...nothing, ...change } });
    const check = (how: Partial<HaproxyStrategy> = {}) => validate({ ...strategy, ...how }, { target });
    const visit = (leaf: TestLeaf): Promise<string> =>
      getOnce(haproxy.port, pki.root.certificate, client(leaf)).then((answer) => answer.fingerprint);
    return { haproxy, current, put, first, strategy, tell, check, visit };
  };

  it("hands a new leaf to the running worker, also after a crash left a transaction open, and twice", async () => {
    const { haproxy, current, put, tell, check, visit } = await start("leaf");
    const [visitor, next] = [newClient(), pki.intermediate.issue()];
    assert.deepEqual(await check(), []);
    const name = join(current, "combined.pem");
    assert.match(
      await ask(haproxy.socket, ["set", "ssl", "cert", name], { payload: combined(pki.intermediate.issue()) }),
      /Transaction created/,
    );
    const before = await workerOf(haproxy);
    put({ "combined.pem": combined(next) });
    for (let time = 0; time < 2; time += 1) {
      const told = await tell({ leaf: true });
      assert.deepEqual(told, { ok: true, detail: `${name} changed through ${haproxy.socket}` });
      assert.equal(await visit(visitor), fingerprint(next.certificate));
    }
    assert.equal(await workerOf(haproxy), before, "no reload");
    assert.doesNotMatch(await ask(haproxy.socket, ["show", "ssl", "cert"]), /# transaction/);
  });

  it("keeps the old leaf when HAProxy refuses the new one, leaves no transaction, and does not reload", async () => {
    const { haproxy, put, first, tell, visit } = await start("refusal");
    const stranger = pki.intermediate.issue();
    const before = await workerOf(haproxy);
    for (const [pem, why] of [
      [keyPem(first.key) + certificatePem(stranger.certificate), /inconsistencies between private key and certificate/],
      [certificatePem(stranger.certificate), /must contain at least a certificate and a private key/],
      ["not a certificate\n", /unable to load certificate/],
    ] as const) {
      put({ "combined.pem": pem });
      const told = await tell({ leaf: true });
      assert.equal(told.ok, false);
      assert.match(told.detail, why);
      assert.doesNotMatch(told.detail, /PRIVATE KEY|[A-Za-z0-9+/]{64}/);
      assert.equal(await visit(newClient()), fingerprint(first.certificate));
      assert.doesNotMatch(await ask(haproxy.socket, ["show", "ssl", "cert"]), /# transaction/);
    }
    assert.equal(await workerOf(haproxy), before);
  });

  it("hands over a CA that was added and a CRL that is fresher, and reloads when a CA is gone", async () => {
    const { haproxy, current, put, tell, visit } = await start("trust");
    const stranger = other.issue({ extendedKeyUsage: ["clientAuth"] });
    await assert.rejects(visit(stranger));
    const before = await workerOf(haproxy);
    put({ "ca.pem": cas + certificatePem(other.certificate), "crl.pem": crls() + crlPem(other.crl()) });
    const told = await tell({ trust: true, crls: true });
    assert.deepEqual(told, {
      ok: true,
      detail: `${join(current, "ca.pem")}, ${join(current, "crl.pem")} changed through ${haproxy.socket}`,
    });
    await visit(stranger);
    assert.equal(await workerOf(haproxy), before, "no reload");

    put({ "ca.pem": cas, "crl.pem": crls() });
    const again = await tell({ trust: true, crls: true });
    assert.match(again.detail, /^reloaded .* a CA is no longer trusted/);
    assert.equal(again.ok, true);
    assert.notEqual(await workerOf(haproxy), before);
    await assert.rejects(visit(stranger));
  });

  it("reloads for a revocation, because through the socket a revoked client could resume", async () => {
    const { haproxy, current, put, tell, visit } = await start("revocation", { tickets: true });
    const thief = newClient();
    const how = {
      ca: certificatePem(pki.root.certificate),
      cert: certificatePem(thief.certificate),
      key: keyPem(thief.key),
    };
    const { session } = await handshake(haproxy.port, how);
    put({ "crl.pem": crls(thief.serial) });
    const name = join(current, "crl.pem");
    await ask(haproxy.socket, ["set", "ssl", "crl-file", name], { payload: readFileSync(name, "utf8") });
    assert.match(await ask(haproxy.socket, ["commit", "ssl", "crl-file", name]), /Success/);
    await assert.rejects(visit(thief), "a full handshake is refused");
    const again = await handshake(haproxy.port, how, session);
    assert.ok(again.resumed, "a resumed one is not: were it, no reload would be needed");

    const before = await workerOf(haproxy);
    const told = await tell({ revoked: true, crls: true });
    assert.equal(told.ok, true);
    assert.match(told.detail, /new worker \d+ \(not through the socket: certificates were revoked/);
    assert.notEqual(await workerOf(haproxy), before);
    await assert.rejects(handshake(haproxy.port, how, session));
  });

  it("finds the master through the worker on the socket, and sees whether a new worker comes of it", async () => {
    const { haproxy, put, tell, check, strategy } = await start("parent");
    const parent = { reload: { kind: "parent", socket: haproxy.socket, timeoutMs: 3000 } } as const;
    assert.deepEqual(await check({ ...strategy, ...parent }), []);
    const before = await workerOf(haproxy);
    const told = await tell({ revoked: true, crls: true }, parent);
    assert.equal(told.ok, true, told.detail);
    assert.match(
      told.detail,
      /sent USR2 to haproxy.*new worker \d+ \(not through the socket: certificates were revoked/,
    );
    assert.notEqual(await workerOf(haproxy), before);

    put({ "crl.pem": "" });
    const refused = await tell({ revoked: true, crls: true }, parent);
    assert.deepEqual([refused.ok, refused.refused], [false, true]);
    assert.match(refused.detail, /no new worker answers .*: run haproxy -c -f/);
    const elsewhere = { reload: { ...parent.reload, socket: haproxy.masterSocket } };
    assert.match((await check({ ...strategy, ...elsewhere })).join(), /master is not found through/);
  });

  it("reloads for a CRL larger than the socket takes", async () => {
    const { haproxy, put, tell, visit } = await start("large");
    const visitor = newClient();
    const many = Array.from({ length: 600 }, (_, at) => (0x10_0000_0000_0000_0000n + BigInt(at)).toString(16));
    put({ "crl.pem": crls(...many) });
    const before = await workerOf(haproxy);
    const told = await tell({ crls: true });
    assert.equal(told.ok, true, told.detail);
    assert.match(told.detail, /more than the socket takes \(tune\.bufsize\)/);
    assert.notEqual(await workerOf(haproxy), before);
    await visit(visitor);
  });

  it("reloads when nothing is news, when a name is unknown, and when another transaction is open", async () => {
    const second = join(directory, "second.txt");
    writeFileSync(second, combined(pki.intermediate.issue()), { mode: 0o600 });
    const { haproxy, put, tell, check, visit } = await start("unknown", { alsoServes: [second] });
    const next = pki.intermediate.issue();
    put({ "combined.pem": combined(next) });
    assert.match((await tell({})).detail, /^reloaded .* the socket had been told already/);
    assert.equal(await visit(newClient()), fingerprint(next.certificate));

    const elsewhere = { certificate: "/etc/haproxy/elsewhere.pem" };
    assert.match(
      (await tell({ leaf: true }, elsewhere)).detail,
      /^reloaded .* no cert named \/etc\/haproxy\/elsewhere/,
    );
    const alone = await tell({ leaf: true }, { ...elsewhere, reload: null });
    assert.equal(alone.ok, false);
    assert.match(alone.detail, /give `certificate` the name that haproxy.cfg has/);
    assert.match((await check(elsewhere)).join(), /no cert named/);
    assert.match((await check({ crlFile: "/none.pem" })).join(), /no crl-file named \/none.pem/);

    await ask(haproxy.socket, ["set", "ssl", "cert", second], { payload: combined(pki.intermediate.issue()) });
    const last = pki.intermediate.issue();
    put({ "combined.pem": combined(last) });
    const told = await tell({ leaf: true });
    assert.match(told.detail, /^reloaded .* somebody else's transaction is open/);
    assert.equal(await visit(newClient()), fingerprint(last.certificate));
  });

  it("says that a socket of a lower level needs the level admin, and reloads meanwhile", async () => {
    const { put, tell, check, visit } = await start("level", { sockets: "user" });
    assert.match((await check()).join(), /level user: write `stats socket .* level admin`/);
    const next = pki.intermediate.issue();
    put({ "combined.pem": combined(next) });
    const told = await tell({ leaf: true });
    assert.equal(told.ok, true, told.detail);
    assert.equal(await visit(newClient()), fingerprint(next.certificate));
  });

  it("says why a socket is of no use, and does not send a key where anybody may listen", async () => {
    const { haproxy, put, tell, check, strategy } = await start("socket");
    put({ "combined.pem": combined(pki.intermediate.issue()) });
    const file = join(directory, "file");
    writeFileSync(file, "");
    for (const [socket, why] of [
      [join(directory, "none"), /no such socket: start HAProxy/],
      [file, /is not a socket/],
    ] as const) {
      assert.match((await check({ socket })).join(), why);
      assert.match((await tell({ leaf: true }, { socket })).detail, why);
      assert.equal((await tell({ leaf: true }, { socket })).ok, true, "by reload");
      assert.equal((await tell({ leaf: true }, { socket, reload: null })).ok, false);
    }
    assert.match((await check({ socket: haproxy.masterSocket })).join(), /is the socket of HAProxy's master/);
    const notMaster = { ...strategy, reload: { kind: "master", socket: haproxy.socket, timeoutMs: 1000 } } as const;
    assert.match((await check(notMaster)).join(), /not the socket of a HAProxy master/);
    chmodSync(join(directory, "socket", "haproxy"), 0o777);
    assert.match((await check()).join(), /anybody may put a socket into/);
    assert.match((await tell({ leaf: true }, { reload: null })).detail, /anybody may put a socket into/);
  });

  it("notices that HAProxy refused a reload and kept its old worker", async () => {
    const { haproxy, put, first, tell, visit } = await start("failed");
    const before = await workerOf(haproxy);
    put({ "combined.pem": "not a certificate\n" });
    const told = await tell({});
    assert.equal(told.ok, false);
    assert.match(told.detail, /refused the reload and keeps its old worker/);
    assert.equal(await workerOf(haproxy), before);
    assert.equal(await visit(newClient()), fingerprint(first.certificate));
    put({ "combined.pem": combined(first) });
    assert.equal((await tell({})).ok, true, "and the next one is taken");
  });
});

/** Pid of the newest worker; while the master starts itself anew it shows none. */
async function workerOf({ masterSocket }: Haproxy): Promise<string> {
  let pid: string | undefined;
  await until("the master shows a worker", async () => {
    const answer = await ask(masterSocket, ["show", "proc"], { shut: true }).catch(() => "");
    pid = /^(\d+)\s+worker/m.exec(answer)?.[1];
    return pid !== undefined;
  });
  return pid ?? "";
}

/** Resolves once HAProxy has answered a request, with the session to resume; rejects when it refuses. */
async function handshake(
  port: number,
  how: SecureContextOptions,
  session?: Buffer,
): Promise<{ session: Buffer; resumed: boolean }> {
  const resuming = session === undefined ? {} : { session };
  const socket = connectTls({ host: "127.0.0.1", port, servername: "localhost", ...how, ...resuming });
  const sessions: Buffer[] = [];
  socket.on("session", (latest: Buffer) => void sessions.push(latest));
  try {
    await once(socket, "secureConnect");
    socket.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    const [answer] = (await Promise.race([
      once(socket, "data"),
      once(socket, "close").then(() => Promise.reject(new Error("closed without an answer"))),
    ])) as [Buffer];
    assert.match(answer.toString("latin1"), /^HTTP\/1.1 200/);
    return { session: sessions.at(-1) ?? Buffer.alloc(0), resumed: socket.isSessionReused() };
  } finally {
    socket.destroy();
  }
}
