import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, suite, test } from "node:test";
import { requestJson } from "@newleaf/shared/http-client";
import { generateKey } from "@newleaf/shared/key-algorithm";
import { readOperatorFiles, switchToNext, writeNextKey } from "../../../../../server/cli/operator/files.ts";
import { type AgentsPost, renewOperator } from "../../../../../server/cli/operator/renewal.ts";
import { movableClock, operatorId, startService, type TestService } from "../../../../support/service.ts";
import { type CommandResult, newleaf } from "../../../../support/terminal.ts";

const day = 86_400_000;
let service: TestService;
let directory: string;
let pristine: string;
before(async () => {
  service = await startService();
  directory = join(service.dataDir, "operators", operatorId);
  pristine = join(service.dir, "pristine");
});
after(() => service[Symbol.asyncDispose]());

/** Only the command line's clock moves: the service sees an operator who renews early, which anybody may. */
function later(days: number, ...argv: string[]): Promise<CommandResult> {
  const clock = movableClock();
  clock.advance(days * day);
  return newleaf([...argv, "--data", service.dataDir], { clock });
}

function serialOf(chain: string): string {
  return new X509Certificate(readFileSync(chain)).serialNumber.toLowerCase();
}

async function stateOf(serial: string): Promise<string | undefined> {
  return (await service.server.authority.store.findCertificate(serial))?.state;
}

suite("the operator's certificate", () => {
  afterEach(async () => {
    // Whatever happened, what is in force is a pair.
    await readOperatorFiles(directory);
  });

  test("is left alone before two thirds of its life", async () => {
    const before = serialOf(join(directory, "chain.pem"));
    assert.equal((await later(59, "status")).code, 0);
    assert.equal(serialOf(join(directory, "chain.pem")), before);
  });

  test("is renewed after them, with a new key, before the command does its work with it", async () => {
    const before = serialOf(join(directory, "chain.pem"));
    const key = readFileSync(join(directory, "key.pem"), "utf8");
    const { code, err } = await later(61, "status");
    assert.deepEqual([code, err], [0, ""]);
    const now = serialOf(join(directory, "chain.pem"));
    assert.notEqual(now, before);
    assert.notEqual(readFileSync(join(directory, "key.pem"), "utf8"), key);
    assert.deepEqual([await stateOf(now), await stateOf(before)], ["current", "superseded"]);
    for (const file of ["key.pem", "chain.pem"]) assert.equal(statSync(join(directory, file)).mode & 0o777, 0o600);
    assert.ok(!existsSync(join(directory, "next")));
    assert.deepEqual(readdirSync(join(directory, "versions")).toSorted(), [now, before].toSorted());
    assert.equal((await later(0, "status")).code, 0);
  });

  test("a renewal cut off after the answer was lost goes on with the same key and gets the same leaf", async () => {
    const files = await readOperatorFiles(directory);
    cpSync(directory, pristine, { recursive: true, verbatimSymlinks: true });
    assert.equal((await later(61, "ca", "list")).code, 0);
    const released = serialOf(join(directory, "chain.pem"));
    const nextKey = readFileSync(join(directory, "key.pem"));
    // As the disk was when the answer got lost: old pair in force, the new key durable in next/.
    rmSync(directory, { recursive: true });
    cpSync(pristine, directory, { recursive: true, verbatimSymlinks: true });
    mkdirSync(join(directory, "next"), { mode: 0o700 });
    writeFileSync(join(directory, "next", "key.pem"), nextKey, { mode: 0o600 });
    assert.equal((await readOperatorFiles(directory)).leaf.serialNumber, files.leaf.serialNumber);

    const { code, err } = await later(61, "status");
    assert.deepEqual([code, err], [0, ""]);
    assert.equal(serialOf(join(directory, "chain.pem")), released);
    rmSync(pristine, { recursive: true });
  });

  test("a key in next/ that a crash cut short is thrown away", async () => {
    mkdirSync(join(directory, "next"), { mode: 0o700 });
    writeFileSync(join(directory, "next", "key.pem"), "-----BEGIN PRIVATE KEY-----\nMIG", { mode: 0o600 });
    const before = serialOf(join(directory, "chain.pem"));
    const { code, err } = await later(61, "status");
    assert.deepEqual([code, err], [0, ""]);
    assert.notEqual(serialOf(join(directory, "chain.pem")), before);
  });

  test("many commands at once renew once", async () => {
    const before = serialOf(join(directory, "chain.pem"));
    const results = await Promise.all(Array.from({ length: 6 }, () => later(61, "status")));
    assert.deepEqual(
      results.map(({ code }) => code),
      [0, 0, 0, 0, 0, 0],
      results.map(({ err }) => err).join(""),
    );
    const now = serialOf(join(directory, "chain.pem"));
    assert.notEqual(now, before);
    const { items } = await service.server.authority.store.listLineages({ identity: operatorId, limit: 10 });
    assert.deepEqual(
      items.map(({ state }) => state),
      ["active"],
    );
  });

  test("that cannot be renewed now is a warning, and the command is done with the one there is", async () => {
    const run = join(service.dataDir, "run.json");
    const text = readFileSync(run, "utf8");
    const parsed = JSON.parse(text) as { listeners: Record<string, string> };
    writeFileSync(run, JSON.stringify({ ...parsed, listeners: { ...parsed.listeners, agents: "127.0.0.1:1" } }));
    const { code, err } = await later(61, "status");
    writeFileSync(run, text);
    assert.equal(code, 0);
    assert.match(err, /^warning: the operator certificate ends on .* could not be renewed/);
  });

  test("that has expired says so, and what to do", async () => {
    const { code, err } = await later(91, "status");
    assert.equal(code, 1);
    assert.match(err, /expired on .*--as.*\(certificate-expired\)/s);
  });

  test("two plain files, as another program wrote them, become a directory of versions at the first renewal", async () => {
    const plain = join(service.dir, "plain");
    mkdirSync(plain, { mode: 0o700 });
    for (const file of ["key.pem", "chain.pem"])
      writeFileSync(join(plain, file), readFileSync(join(directory, file)), { mode: 0o600 });
    const clock = movableClock();
    clock.advance(61 * day);
    const { code, err } = await newleaf(["status", "--data", service.dataDir, "--as", plain], { clock });
    assert.deepEqual([code, err], [0, ""]);
    const { leaf } = await readOperatorFiles(plain);
    assert.equal(serialOf(join(plain, "chain.pem")), leaf.serialNumber.toLowerCase());
    assert.notEqual(leaf.serialNumber.toLowerCase(), serialOf(join(directory, "chain.pem")));
    // The copy has renewed; put the original where the copy is, so that what is in force is used further on.
    rmSync(directory, { recursive: true });
    cpSync(plain, directory, { recursive: true, verbatimSymlinks: true });
  });
});

suite("the operator's files", () => {
  test("killed at any moment while they are switched, key and chain are a pair", async () => {
    const target = join(service.dir, "switching");
    cpSync(directory, target, { recursive: true, verbatimSymlinks: true });
    // A child that switches without end between pairs made beforehand; any prefix of its work must be readable.
    const script = join(service.dir, "switch.ts");
    const pairs = join(service.dir, "pairs");
    mkdirSync(pairs);
    for (const name of ["a", "b"]) {
      const source = await readOperatorFiles(directory);
      mkdirSync(join(pairs, name));
      writeFileSync(join(pairs, name, "key.pem"), source.key);
      writeFileSync(join(pairs, name, "chain.pem"), source.chain);
      if (name === "a") await later(61, "status");
    }
    const module = join(import.meta.dirname, "../../../../../server/cli/operator/files.ts");
    writeFileSync(
      script,
      `import { createPrivateKey } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import { switchToNext, writeNextKey } from ${JSON.stringify(module)};
for (let round = 0; ; round++) {
  const pair = ${JSON.stringify(pairs)} + (round % 2 === 0 ? "/a" : "/b");
  rmSync(${JSON.stringify(join(target, "next"))}, { recursive: true, force: true });
  await writeNextKey(${JSON.stringify(target)}, createPrivateKey(readFileSync(pair + "/key.pem")));
  await switchToNext(${JSON.stringify(target)}, readFileSync(pair + "/chain.pem", "utf8"));
  if (round === 0) process.stdout.write("go");
}
`,
    );
    for (let round = 0; round < 10; round++) {
      const child = spawn(process.execPath, [script], { stdio: ["ignore", "pipe", "inherit"] });
      const closed = once(child, "close");
      await Promise.race([once(child.stdout, "data"), closed]);
      await new Promise((resolve) => setTimeout(resolve, 3 * round));
      child.kill("SIGKILL");
      await closed;
      assert.equal(child.signalCode, "SIGKILL", "the child ended by itself");
      // Throws when they do not belong together; the fixed paths are what other programs read.
      await readOperatorFiles(target);
      const fixed = new X509Certificate(readFileSync(join(target, "chain.pem")));
      assert.ok(fixed.checkPrivateKey(createPrivateKey(readFileSync(join(target, "key.pem")))));
    }
  });

  test("a pair that does not belong together is refused", async () => {
    const target = join(service.dir, "mismatch");
    mkdirSync(target, { mode: 0o700 });
    await writeNextKey(target, await generateKey("ecdsa-p256"));
    await switchToNext(target, readFileSync(join(directory, "chain.pem"), "utf8"));
    await assert.rejects(readOperatorFiles(target), { code: "conflict" });
  });

  test("is not renewed a second time by a command that read it before another renewed it", async () => {
    const stale = await readOperatorFiles(directory);
    const asked: string[] = [];
    const post: AgentsPost = async (holder, path, body) => {
      asked.push(path);
      return requestJson({
        url: service.urls.agents + path,
        method: "POST",
        body,
        tls: { ca: service.roots, cert: holder.chain, key: holder.key },
        timeoutMs: 10_000,
        maxBytes: 100_000,
      });
    };
    const first = await renewOperator(stale, post);
    const second = await renewOperator(stale, post);
    assert.equal(asked.length, 1);
    assert.ok(second.leaf.raw.equals(first.leaf.raw));
  });
});
