/** The driver of Redis's CONFIG SET against the real Redis, over each kind of connection. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { chmodSync, chownSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer, type Server } from "node:net";
import { join } from "node:path";
import { after, describe as suite, it } from "node:test";
import type { Target } from "../../../agent-client/install/target.ts";
import { probeOnce } from "../../../agent-client/probe/probe.ts";
import { describe, reload, validate } from "../../../agent-client/reload/drivers.ts";
import type { RedisStrategy } from "../../../agent-client/reload/strategy.ts";
import { fingerprint } from "../../../shared/fingerprint.ts";
import { accepts, freePort, startDaemon } from "../../support/processes.ts";
import { findProgram, needs, needsRoot } from "../../support/programs.ts";
import { temporaryDirectory } from "../../support/temporary-directory.ts";
import { certificatePem, keyPem, makeRoot, makeTestCa, type TestLeaf } from "../../support/test-ca.ts";

const files = ["fullchain.pem", "key.pem", "ca.pem"] as const;
const password = "not to be seen";

suite("Redis by CONFIG SET", { skip: needs("redis-server", "openssl") }, () => {
  const directory = temporaryDirectory("redis");
  const { root, intermediate } = makeTestCa(directory);
  const stops: (() => unknown)[] = [];
  after(async () => {
    for (const stop of stops) await stop();
  });

  /** A Redis with a TLS port, a plain port and a Unix socket, and the directory that its files are installed in. */
  const start = async (name: string, settings: readonly string[] = [], first = intermediate.issue()) => {
    const home = join(directory, name);
    const current = join(home, "current");
    mkdirSync(current, { recursive: true });
    symlinkSync("current", join(home, "previous"));
    const put = (leaf: TestLeaf, keyOf = leaf): string => {
      const texts = [
        certificatePem(leaf.certificate, intermediate.certificate),
        keyPem(keyOf.key),
        certificatePem(root.certificate, intermediate.certificate),
      ];
      for (const [at, file] of files.entries()) writeFileSync(join(current, file), texts[at] ?? "", { mode: 0o600 });
      return fingerprint(leaf.certificate);
    };
    put(first);
    const [port, plain, socket] = [await freePort(), await freePort(), join(home, "redis.sock")];
    const [cert, key, ca] = files.map((file) => join(current, file));
    const tls = ["--tls-cert-file", `${cert}`, "--tls-key-file", `${key}`, "--tls-ca-cert-file", `${ca}`];
    const where = ["--bind", "127.0.0.1", "--dir", home, "--unixsocket", socket, "--save", ""];
    const ports = ["--port", `${plain}`, "--tls-port", `${port}`];
    const daemon = startDaemon(findProgram("redis-server") ?? "", [...where, ...ports, ...tls, ...settings]);
    stops.push(() => daemon.stop());
    if (!(await accepts(plain, daemon))) throw new Error(`redis did not start: ${daemon.output()}`);
    const target = { directory: home, files, owner: null, group: null, mode: 0o600, links: {} } as const;
    const strategy = { kind: "redis", connect: socket, user: null, passwordFile: null, tls: null, timeoutMs: 3000 };
    const tell = (how: Partial<RedisStrategy> = {}) => reload({ ...strategy, ...how } as RedisStrategy, { target });
    const check = (how: Partial<RedisStrategy> = {}) => validate({ ...strategy, ...how } as RedisStrategy, { target });
    const presented = async (): Promise<string> => {
      const answer = await probeOnce({ connect: `127.0.0.1:${port}`, serverName: "localhost", timeoutMs: 2000 });
      return "fingerprint" in answer ? answer.fingerprint : answer.error;
    };
    return { home, current, port, plain, socket, put, tell, check, presented };
  };

  it("loads a new leaf through a Unix socket, a plain port, and the port with TLS", async () => {
    const { current, port, plain, socket, put, tell, check, presented } = await start("ways");
    const tls = { serverName: "localhost" };
    for (const how of [{ connect: socket }, { connect: `127.0.0.1:${plain}` }, { connect: `127.0.0.1:${port}`, tls }]) {
      assert.deepEqual(await check(how), []);
      const next = put(intermediate.issue());
      const loaded = files.map((file) => join(current, file)).join(", ");
      assert.deepEqual(await tell(how), { ok: true, detail: `Redis loaded ${loaded}` });
      assert.equal(await presented(), next, how.connect);
      assert.equal((await tell(how)).ok, true, "and once more");
    }
  });

  it("hears that a bad pair is refused, and the old leaf stays", async () => {
    const { put, tell, presented } = await start("bad");
    const before = await presented();
    put(intermediate.issue(), intermediate.issue());
    const { ok, detail } = await tell();
    assert.equal(ok, false);
    assert.match(detail, /^Redis says ERR CONFIG SET failed .*Unable to update TLS .*goes on with what it has/);
    assert.equal(await presented(), before);
  });

  it("logs in, as the default user or another, and never shows the password", async () => {
    const acl = ["--user", "newleaf", "on", `>${password}`, "-@all", "+config|get", "+config|set"];
    const { home, tell, check } = await start("acl", ["--requirepass", password, ...acl]);
    const file = (name: string, text: string, mode = 0o600): string => {
      const path = join(home, name);
      writeFileSync(path, text);
      chmodSync(path, mode);
      return path;
    };
    const right = file("right", `${password}\nsecond line\n`);
    for (const user of [null, "newleaf"]) {
      assert.deepEqual(await check({ user, passwordFile: right }), []);
      assert.equal((await tell({ user, passwordFile: right })).ok, true);
    }
    const wrong: [Partial<RedisStrategy>, RegExp][] = [
      [{}, /NOAUTH .*name a `passwordFile`/],
      [{ passwordFile: file("wrong", `${password}x\n`) }, /WRONGPASS .*correct `user` or .*wrong/],
      [{ user: "nobody", passwordFile: right }, /WRONGPASS/],
      [{ passwordFile: file("open", password, 0o644) }, /others can read passwordFile .*run: chmod o= /],
      [{ passwordFile: file("empty", "\n") }, /empty first line/],
      [{ passwordFile: join(home, "none") }, /none cannot be read \(ENOENT\)/],
      [{ passwordFile: home }, /not a regular file/],
    ];
    for (const [how, says] of wrong) {
      const { ok, detail } = await tell(how);
      assert.deepEqual([ok, await check(how)], [false, [detail]]);
      assert.match(detail, says);
      assert.ok(!detail.includes(password), detail);
    }
  });

  it(
    "is sent nothing of a file to which a user who owns the password's directory links, and names no device to read",
    {
      skip: needsRoot("to be led astray by another user"),
    },
    async () => {
      const { home, tell } = await start("led");
      const theirs = join(home, "theirs");
      const secret = join(home, "secret");
      mkdirSync(theirs);
      chownSync(theirs, 65_534, 65_534);
      writeFileSync(secret, "root:not for others\n", { mode: 0o640 });
      symlinkSync(secret, join(theirs, "password"));
      const { ok, detail } = await tell({ passwordFile: join(theirs, "password") });
      assert.deepEqual([ok, /can be led anywhere by uid 65534/.test(detail)], [false, true], detail);

      // Whoever is first binds the socket, and would be told the password.
      chmodSync(theirs, 0o777);
      writeFileSync(join(home, "right"), password, { mode: 0o600 });
      const open = await tell({ connect: join(theirs, "redis.sock"), passwordFile: join(home, "right") });
      assert.match(open.detail, /anybody may put a socket into .*theirs, and the password goes through it/);

      const words = ["tls-cert-file", "/dev/zero"].map((word) => `$${word.length}\r\n${word}\r\n`).join("");
      await using server = createServer((socket) => void socket.on("data", () => socket.write(`*2\r\n${words}`)));
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
      const { port } = server.address() as AddressInfo;
      const strategy = {
        kind: "redis",
        connect: `127.0.0.1:${port}`,
        user: null,
        passwordFile: null,
        tls: null,
      } as const;
      const target: Target = { directory: home, files, owner: null, group: null, mode: 0o600, links: {} };
      assert.deepEqual(await validate({ ...strategy, timeoutMs: 3000 }, { target }), []);
    },
  );

  it("says which rights its user lacks", async () => {
    const acl = ["--user", "default", "on", "nopass", "-@all", "+config|get"];
    const { tell } = await start("rights", acl);
    assert.match((await tell()).detail, /NOPERM .*its user needs \+config\|get and \+config\|set/);
  });

  it("tells nothing over TLS to a server that does not verify, unless it presents a leaf of ours that has expired", async () => {
    const now = Date.now();
    const expired = intermediate.issue({ notBefore: now - 86_400_000, notAfter: now - 3_600_000 });
    const { home, port, put, tell, check, presented } = await start("expired", [], expired);
    const how = { connect: `127.0.0.1:${port}`, tls: { serverName: "localhost" } };
    const previous = {
      directory: join(home, "elsewhere"),
      files,
      owner: null,
      group: null,
      mode: 0o600,
      links: {},
    } as const;
    const next = put(intermediate.issue());
    assert.match((await tell(how)).detail, /does not verify for localhost .*told nothing/, "not one of ours");
    // What the agent has put aside is.
    mkdirSync(previous.directory);
    symlinkSync(join(home, "current"), join(previous.directory, "current"));
    mkdirSync(join(previous.directory, "previous"));
    writeFileSync(join(previous.directory, "previous", "fullchain.pem"), certificatePem(expired.certificate));
    const strategy = { kind: "redis", user: null, passwordFile: null, timeoutMs: 3000, ...how } as const;
    assert.equal((await reload(strategy, { target: previous })).ok, true);
    assert.equal(await presented(), next);
    const named = { ...how, tls: { serverName: "another.claw.internal" } };
    assert.equal((await tell(named)).ok, true, "presents the installed leaf itself");
    put(intermediate.issue());
    assert.match(String(await check(named)), /does not verify for another\.claw\.internal/);
    const stranger = makeRoot(join(directory, "stranger")).issue();
    put(intermediate.issue(), stranger);
    assert.equal((await tell(how)).ok, false, "no pair to present");
  });

  it("notices a Redis that is configured with other files, or without TLS", async () => {
    const [cert, key] = [join(directory, "elsewhere.crt"), join(directory, "elsewhere.txt")];
    const leaf = intermediate.issue();
    writeFileSync(cert, certificatePem(leaf.certificate));
    writeFileSync(key, keyPem(leaf.key), { mode: 0o600 });
    const other = await start("other", ["--tls-cert-file", cert, "--tls-key-file", key]);
    const right = join(other.home, "current", "fullchain.pem");
    assert.deepEqual(await other.check(), [
      `Redis's tls-cert-file is ${cert}, which is not what is installed in ${other.home}: set it to ${right}`,
    ]);
    const none = await start("none", ["--tls-port", "0", "--tls-cert-file", "", "--tls-key-file", ""]);
    assert.match(String(await none.check()), /Redis has no tls-cert-file: name it in redis\.conf/);
    assert.equal((await none.tell()).ok, false);
  });

  it("says who answers, when it is not Redis, slow, or nobody", async () => {
    const { port, plain, tell } = await start("who");
    assert.match(
      (await tell({ connect: `127.0.0.1:${port}` })).detail,
      /^127.0.0.1:\d+: .*; a port with TLS needs `tls: /,
    );
    const silent = await listen();
    const at = `127.0.0.1:${(silent.address() as AddressInfo).port}`;
    assert.match((await tell({ connect: at, timeoutMs: 200 })).detail, /took longer than 0\.2 s/);
    const tls = { serverName: "localhost" };
    for (const connect of [at, `127.0.0.1:${plain}`])
      assert.match((await tell({ connect, tls, timeoutMs: 200 })).detail, /took longer than 0\.2 s/);
    for (const nobody of ["127.0.0.1:1", join(directory, "none.sock")])
      assert.equal(
        (await tell({ connect: nobody })).detail,
        `nothing answers at ${nobody}: is Redis running, and does it listen there?`,
      );
    assert.match(
      describe({ kind: "redis", connect: at, user: null, passwordFile: null, tls, timeoutMs: 1 }),
      /CONFIG SET/,
    );
  });

  async function listen(): Promise<Server> {
    const server = createServer((socket) => void socket.on("error", () => undefined).resume()).listen(0, "127.0.0.1");
    await once(server, "listening");
    stops.push(() => server.close());
    return server;
  }
});
