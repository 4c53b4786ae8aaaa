/** `newleaf operator …`, `newleaf login` and what a login is good for, from a machine that has no data directory. */
import assert from "node:assert/strict";
import { createPrivateKey, hash, X509Certificate } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { keyFingerprint } from "@newleaf/shared/fingerprint";
import { readToken } from "@newleaf/shared/token";
import { readOperatorFiles, writeNextKey } from "../../../../server/cli/operator/files.ts";
import { call, csrFor, newKey } from "../../../support/agent-client.ts";
import { openSsl } from "../../../support/openssl.ts";
import { type OperatorCommands, operatorCommands } from "../../../support/operator-commands.ts";
import { anotherAdmin } from "../../../support/operators.ts";
import { needs } from "../../../support/programs.ts";
import { movableClock, operatorId, startService, type TestService } from "../../../support/service.ts";
import { type CommandOptions, type CommandResult, newleaf } from "../../../support/terminal.ts";

const day = 86_400_000;
let service: TestService;
let here: OperatorCommands;
/** Another machine: a home of its own, and no data directory. */
let home: string;
let logins: string;
let count = 0;

before(async () => {
  service = await startService({ NEWLEAF_PROFILES_OPERATOR_VALIDITY: "90d" });
  here = operatorCommands(service);
});
after(() => service[Symbol.asyncDispose]());
beforeEach(() => {
  home = join(service.dir, `home-${(count += 1)}`);
  mkdirSync(home);
  logins = join(home, "newleaf");
});

/** A data directory that is not there, so that the working directory of the tests does not matter. */
function elsewhere(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  return newleaf(argv, { ...options, env: { XDG_CONFIG_HOME: home, ...options.env } });
}

async function newToken(id: string, role = "operator"): Promise<string> {
  const file = join(service.dir, `${id}.token`);
  await here.must(["operator", "add", id, "--role", role, "--token-out", file]);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  return file;
}

const urls = (): string[] => {
  const { admin, agents, enrollment } = service.urls;
  return ["--server", admin, "--agents", agents, "--enrollment", enrollment];
};

async function login(id: string, ...more: string[]): Promise<CommandResult> {
  const file = join(service.dir, `${id}.token`);
  return elsewhere(["login", ...urls(), "--token-file", file, ...more]);
}

async function loggedIn(id: string, role = "operator"): Promise<string> {
  await newToken(id, role);
  const { code, err } = await login(id);
  assert.equal(code, 0, err);
  return join(logins, id);
}

const serialIn = (directory: string): string =>
  new X509Certificate(readFileSync(join(directory, "chain.pem"))).serialNumber.toLowerCase();

describe("newleaf operator", () => {
  it("adds, lists, shows, sets and removes", async () => {
    const file = await newToken("alice@operators", "viewer");
    assert.match(readFileSync(file, "utf8"), /^nl1\.[\w-]+\n$/);
    const again = await here.command(["operator", "add", "bob@operators", "--role", "viewer", "--token-out", file]);
    assert.deepEqual([again.code, /is there already; nothing was changed/.test(again.err)], [2, true]);
    const printed = await here.command([
      "operator",
      "add",
      "bob@operators",
      "--role",
      "approver",
      "--label",
      "team=night",
    ]);
    assert.match(printed.out, /^nl1\.[\w-]+\n$/, "the token alone");
    const list = await here.must(["operator", "list"]);
    assert.match(list, /alice@operators +viewer +active +no certificate/);
    assert.match(list, /admin@operators +admin +active +20\d\d/);
    const shown = await here.json<{ role: string; labels: object }>("operator", "show", "bob@operators");
    assert.deepEqual([shown.role, shown.labels], ["approver", { team: "night" }]);
    assert.match(
      await here.must(["operator", "set", "bob@operators", "--role", "operator", "--yes"]),
      /has the role operator now/,
    );
    const asked = await here.command(["operator", "remove", "bob@operators"], { answers: ["n"] });
    assert.match(asked.err, /Remove bob@operators \(operator\).*\n.*Nothing was changed/s);
    await here.must(["operator", "remove", "bob@operators", "--yes"]);
    const gone = await here.command(["operator", "show", "bob@operators"]);
    assert.deepEqual([gone.code, /not-found/.test(gone.err)], [1, true]);
    const last = await here.command(["operator", "remove", operatorId, "--yes"]);
    assert.deepEqual([last.code, /the last admin/.test(last.err)], [1, true]);
    const wrong = await here.command(["operator", "add", "x", "--role", "king"]);
    assert.equal(wrong.code, 2);
  });
});

describe("newleaf login", () => {
  it("makes the key there, knows the service by the token's root, and later commands speak as that operator", async () => {
    const directory = await loggedIn("carol@operators");
    for (const [path, mode] of [
      ["", 0o700],
      ["login.json", 0o600],
      ["roots.pem", 0o600],
    ] as const)
      assert.equal(statSync(join(directory, path)).mode & 0o777, mode, path);
    assert.equal(statSync(logins).mode & 0o777, 0o700);
    const files = await readOperatorFiles(directory);
    assert.equal(statSync(join(directory, "key.pem")).mode & 0o777, 0o600);
    assert.equal((await service.server.authority.store.findCertificate(serialIn(directory)))?.state, "current");
    assert.equal(files.leaf.subject, "CN=carol@operators");
    assert.deepEqual(readdirSync(logins), ["carol@operators"], "nothing is left over");

    const { code, err } = await elsewhere(["identity", "add", "by-carol", "--profile", "agent"]);
    assert.deepEqual([code, err], [0, ""]);
    const audit = await here.json<{ actor: string }[]>("audit", "list", "--target", "by-carol");
    assert.equal(audit[0]?.actor, "carol@operators");
  });

  it("says which, when there are several; --as chooses", async () => {
    await loggedIn("dora@operators", "viewer");
    await loggedIn("emil@operators", "viewer");
    const { code, err } = await elsewhere(["operator", "list"]);
    assert.deepEqual(
      [code, /several logins \(dora@operators, emil@operators\); say which with --as/.test(err)],
      [2, true],
    );
    const chosen = await elsewhere(["status", "--as", "emil@operators"]);
    assert.equal(chosen.code, 0, chosen.err);
  });

  it("after a lost answer goes on with the same key and gets the same certificate", async () => {
    const file = await newToken("fred@operators");
    const stage = join(logins, stageName(file));
    const key = await newKey();
    mkdirSync(stage, { recursive: true });
    await writeNextKey(stage, key);
    const token = readFileSync(file, "utf8").trim();
    const { body } = await call(service, "enrollment", "POST", "/v1/enrollments", {
      body: { csr: csrFor(key), token },
    });
    const { code, err } = await login("fred@operators");
    assert.equal(code, 0, err);
    assert.equal(serialIn(join(logins, "fred@operators")), (body as { serial: string }).serial);
  });

  it("cut off at any step is finished by the same command", async () => {
    const file = await newToken("hugo@operators");
    const complete = await login("hugo@operators");
    assert.equal(complete.code, 0, complete.err);
    const directory = join(logins, "hugo@operators");
    const key = keyFingerprint(createPrivateKey((await readOperatorFiles(directory)).key));
    const serial = serialIn(directory);
    // Used, but not yet in its place: the stage is complete, and nothing is asked again.
    const stage = join(logins, stageName(file));
    cpSync(directory, stage, { recursive: true, verbatimSymlinks: true });
    rmSync(directory, { recursive: true });
    const again = await login("hugo@operators");
    assert.equal(again.code, 0, again.err);
    assert.equal(serialIn(directory), serial);
    assert.equal(keyFingerprint(createPrivateKey((await readOperatorFiles(directory)).key)), key);
    assert.deepEqual(readdirSync(logins), ["hugo@operators"]);
    const spent = await login("hugo@operators");
    assert.deepEqual([spent.code, /already used/.test(spent.err)], [1, true]);
    assert.deepEqual(readdirSync(logins), ["hugo@operators"], "no key is left over");
  });

  it("refuses a service that is not the token's, a token for a host, and a name that is taken", async () => {
    await using other = await startService();
    const file = await newToken("ivy@operators");
    const { admin, agents, enrollment } = other.urls;
    const argv = ["login", "--server", admin, "--agents", agents, "--enrollment", enrollment, "--token-file", file];
    const wrong = await elsewhere(argv);
    assert.equal(wrong.code, 1);
    assert.match(wrong.err, /does not have the root sha256:.*Nothing was sent \(certificate-not-trusted\)/);

    const before = readdirSync(logins);
    const nobodyThere = ["login", "--server", admin, "--enrollment", "https://localhost:9", "--agents", agents];
    const alone = await elsewhere([...nobodyThere, "--token-file", file]);
    assert.deepEqual([alone.code, /--enrollment URL says where it is/.test(alone.err)], [1, true], alone.err);
    assert.deepEqual(readdirSync(logins), before, "nothing is left over");

    const host = join(service.dir, "host.token");
    writeFileSync(host, await service.token("host-1"), { mode: 0o600 });
    const agent = await elsewhere(["login", ...urls(), "--token-file", host]);
    assert.deepEqual([agent.code, /host-1 is no operator of this service/.test(agent.err)], [1, true]);

    const ok = await elsewhere(["login", ...urls(), "--token-file", file, "--name", "lab"]);
    assert.equal(ok.code, 0, ok.err);
    const second = await newToken("jane@operators");
    const taken = await elsewhere(["login", ...urls(), "--token-file", second, "--name", "lab"]);
    assert.deepEqual([taken.code, /lab is the login of ivy@operators/.test(taken.err)], [1, true]);
    const renamed = await elsewhere(["login", ...urls(), "--token-file", second, "--name", "other"]);
    assert.equal(renamed.code, 0, renamed.err);
  });

  it("waits for a second operator where operators need two", async () => {
    await using guarded = await startService({ NEWLEAF_PROFILES_OPERATOR_APPROVALS: "2" });
    const admins = operatorCommands(guarded);
    const second = await anotherAdmin(guarded, "second@operators");
    const file = join(guarded.dir, "kim.token");
    await admins.must(["operator", "add", "kim@operators", "--role", "viewer", "--token-out", file]);
    const { admin, agents, enrollment } = guarded.urls;
    const argv = ["login", "--server", admin, "--agents", agents, "--enrollment", enrollment, "--token-file", file];
    const running = elsewhere(argv);
    const request = await waitingRequest(guarded);
    const list = await admins.must(["approvals", "list"]);
    assert.match(list, /1 of 2, for kim@operators/);
    const mine = await admins.command(["approvals", "approve", request.id, "kim@operators", "--yes"]);
    assert.deepEqual([mine.code, /gave the first yes \(token\)/.test(mine.err)], [1, true]);
    const decision = { decision: "approve", identity: "kim@operators", fingerprint: request.fingerprint };
    await second.ask("POST", `/v1/approvals/${request.id}/decision`, decision);
    const { code, err } = await running;
    assert.equal(code, 0, err);
    assert.match(err, /waits for another operator, request [0-9a-f]{32}/);
  });
});

describe("a login's certificate", () => {
  it("is renewed after two thirds of its life at the agents listener that the login names, once for many commands", async () => {
    const directory = await loggedIn("lena@operators", "viewer");
    const before = serialIn(directory);
    const clock = movableClock();
    clock.advance(61 * day);
    const runs = await Promise.all(Array.from({ length: 4 }, () => elsewhere(["status"], { clock })));
    assert.deepEqual(
      runs.map(({ code }) => code),
      [0, 0, 0, 0],
      runs.map(({ err }) => err).join(""),
    );
    assert.notEqual(serialIn(directory), before);
    const { items } = await service.server.authority.store.listLineages({ identity: "lena@operators", limit: 10 });
    assert.deepEqual(
      items.map(({ state, newestGeneration }) => [state, newestGeneration]),
      [["active", 2]],
    );
  });

  it("a renewal that a crash cut off goes on with the same key", async () => {
    const directory = await loggedIn("mona@operators", "viewer");
    const pristine = join(service.dir, "mona-before");
    cpSync(directory, pristine, { recursive: true, verbatimSymlinks: true });
    const clock = movableClock();
    clock.advance(61 * day);
    assert.equal((await elsewhere(["operator", "list"], { clock })).code, 0);
    const released = serialIn(directory);
    const nextKey = readFileSync(join(directory, "key.pem"));
    rmSync(directory, { recursive: true });
    cpSync(pristine, directory, { recursive: true, verbatimSymlinks: true });
    mkdirSync(join(directory, "next"), { mode: 0o700 });
    writeFileSync(join(directory, "next", "key.pem"), nextKey, { mode: 0o600 });
    const again = await elsewhere(["operator", "list"], { clock });
    assert.deepEqual([again.code, again.err], [0, ""]);
    assert.equal(serialIn(directory), released);
  });

  it("that is over says what to do, and both ways work: a new token, and a recovery that an admin grants", async () => {
    await using lab = await startService({ NEWLEAF_PROFILES_OPERATOR_VALIDITY: "2m" });
    const admins = operatorCommands(lab);
    const file = join(lab.dir, "nora.token");
    await admins.must(["operator", "add", "nora@operators", "--role", "viewer", "--token-out", file]);
    const { admin, agents, enrollment } = lab.urls;
    const where = ["--server", admin, "--agents", agents, "--enrollment", enrollment];
    const first = await elsewhere(["login", ...where, "--token-file", file]);
    assert.equal(first.code, 0, first.err);
    const directory = join(logins, "nora@operators");
    const early = await elsewhere(["login"]);
    assert.deepEqual([early.code, /there is nothing to recover/.test(early.err)], [1, true]);

    const { clock } = lab;
    // So little that the service's own certificate is not due.
    clock.advance(121_000);
    const over = await elsewhere(["status"], { clock });
    assert.equal(over.code, 1);
    assert.match(
      over.err,
      /expired on .*newleaf token create nora@operators.*grant-recovery nora@operators.*operator rescue/s,
    );

    const before = serialIn(directory);
    await admins.must(["identity", "grant-recovery", "nora@operators", "--ttl", "1h"]);
    const recovered = await elsewhere(["login", "--name", "nora@operators"], { clock });
    assert.equal(recovered.code, 0, recovered.err);
    assert.notEqual(serialIn(directory), before);

    const token = await admins.must(["token", "create", "nora@operators"]);
    writeFileSync(file, token, { mode: 0o600 });
    const recoveredSerial = serialIn(directory);
    const anew = await elsewhere(["login", ...where, "--token-file", file], { clock });
    assert.equal(anew.code, 0, anew.err);
    assert.notEqual(serialIn(directory), recoveredSerial);
    assert.deepEqual(readdirSync(logins), ["nora@operators"]);
  });
});

describe("newleaf operator p12", { skip: needs("openssl") }, () => {
  it("writes key and chain for a browser, with a passphrase beside it, and never over a file", async () => {
    const directory = await loggedIn("olga@operators", "viewer");
    const out = join(home, "client.p12");
    const made = await elsewhere(["operator", "p12", "--out", out]);
    assert.equal(made.code, 0, made.err);
    for (const file of [out, `${out}.passphrase`]) assert.equal(statSync(file).mode & 0o777, 0o600);
    using openssl = openSsl();
    const text = openssl.run(["pkcs12", "-in", out, "-passin", `file:${out}.passphrase`, "-nodes"]);
    const { leaf } = await readOperatorFiles(directory);
    assert.ok(leaf.checkPrivateKey(createPrivateKey(text.slice(text.indexOf("-----BEGIN PRIVATE KEY")))));
    assert.equal(text.match(/BEGIN CERTIFICATE/g)?.length, 2, "leaf and intermediate");
    assert.match(text, /friendlyName: olga@operators/);
    assert.ok(!made.out.includes(readFileSync(`${out}.passphrase`, "utf8").trim()));

    const again = await elsewhere(["operator", "p12", "--out", out]);
    assert.deepEqual([again.code, /is there already/.test(again.err)], [1, true]);
    const own = join(home, "own");
    writeFileSync(own, "a passphrase of mine\n", { mode: 0o600 });
    const second = join(home, "second.p12");
    const given = await elsewhere(["operator", "p12", "--out", second, "--passphrase-file", own]);
    assert.equal(given.code, 0, given.err);
    assert.ok(!existsSync(`${second}.passphrase`));
    openssl.run(["pkcs12", "-in", second, "-passin", `file:${own}`, "-nokeys"]);
  });
});

/** Where a login stands that did not end. */
function stageName(tokenFile: string): string {
  const { secretHash } = readToken(readFileSync(tokenFile, "utf8"));
  return `.login-${hash("sha256", `${secretHash} ${service.urls.enrollment}`).slice(0, 16)}`;
}

async function waitingRequest(of: TestService): Promise<{ id: string; fingerprint: string }> {
  for (;;) {
    const { items } = await of.admin<{ items: { id: string; fingerprint: string }[] }>(
      "GET",
      "/v1/approvals?state=pending",
    );
    const [item] = items;
    if (item !== undefined) return item;
    await sleep(20);
  }
}
