/** A new operator's evening, from the documentation alone: every step is a command of docs/operator-guide.md and the pages it leads to. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { stringify } from "yaml";
import {
  runProgram,
  type EveningHost,
  eveningHost,
  type EveningService,
  must,
  startEveningService,
} from "../support/evening.ts";
import { type Nginx, startNginx } from "../support/nginx.ts";
import { needs } from "../support/programs.ts";
import { visit } from "../support/steady-load.ts";

interface Listed {
  readonly serial: string;
  readonly identity: string;
  readonly state: string;
}

const gateway = "gateway.claw.internal";
const count = 20;
const id = (number: number): string => `host-${String(number).padStart(2, "0")}`;

describe("an operator's evening", { skip: needs("nginx", "openssl"), timeout: 600_000 }, () => {
  const dir = mkdtempSync(join(tmpdir(), "newleaf-evening-"));
  const dataDir = join(dir, "data");
  const env = {
    NEWLEAF_JOURNAL: join(dir, "elsewhere", "journal"),
    NEWLEAF_BACKUP_DIRECTORY: join(dir, "elsewhere", "backups"),
    // One profile whose leaves end tonight.
    NEWLEAF_PROFILES_AGENT_VALIDITY: "20s",
    NEWLEAF_PROFILES_AGENT_BACKDATE: "0s",
  };
  const hosts = new Map<number, EveningHost>();
  const host = (number: number): EveningHost => {
    const known = hosts.get(number);
    assert.ok(known, `there is no host ${number}`);
    return known;
  };
  let service: EveningService;
  let nginx: Nginx;
  let backup = "";

  before(async () => {
    const passphrase = join(dir, "passphrase");
    writeFileSync(passphrase, "correct horse battery staple\n", { mode: 0o600 });
    execFileSync("mkdir", ["-m", "700", "-p", env.NEWLEAF_JOURNAL, env.NEWLEAF_BACKUP_DIRECTORY]);
    await must(
      runProgram("newleaf", ["init", "--data", dataDir, "--host", "localhost", "--root-passphrase-file", passphrase]),
    );
    service = await startEveningService(dataDir, env);
  });

  after(async () => {
    await nginx?.stop();
    await service?.process.kill();
    rmSync(dir, { recursive: true, force: true });
  });

  it("puts twenty identities into the inventory from one file", async () => {
    for (let number = 1; number <= 5; number += 1)
      hosts.set(number, eveningHost(service, join(dir, id(number)), id(number)));
    const keys = await Promise.all(
      [1, 2, 3, 4, 5].map(async (number) => (await must(host(number).agent("key"))).trim()),
    );
    const identities = Array.from({ length: count }, (_, index) => ({
      id: id(index + 1),
      profile: index + 1 === count ? "agent" : "gateway",
      names: { dns: [`${id(index + 1)}.claw.internal`, ...(index === 5 ? [gateway] : [])] },
      ...(index < 5 ? { keys: [/sha256:[0-9a-f]{64}/.exec(keys[index] ?? "")?.[0]] } : {}),
      labels: { site: "lab" },
      owner: "platform",
    }));
    const file = join(dir, "inventory.yml");
    writeFileSync(file, stringify({ identities }));
    const plan = await service.run("inventory", "apply", "-f", file, "--dry-run");
    assert.match(plan, /20/);
    assert.equal(
      (await service.json<unknown[]>("identity", "list", "--profile", "gateway")).length,
      0,
      "a dry run changes nothing",
    );
    await service.run("inventory", "apply", "-f", file, "--yes");
    await service.run("inventory", "apply", "-f", file, "--yes");
    assert.equal((await service.json<unknown[]>("identity", "list")).length, count + 1);
  });

  it("lets five in by their approved keys, five by tokens, five by approval, and refuses one", async () => {
    await Promise.all([1, 2, 3, 4, 5].map((number) => must(host(number).agent("enroll"))));
    for (let number = 6; number <= 10; number += 1) {
      const { token } = await service.json<{ token: string }>("token", "create", id(number));
      const files = number === 6 ? { files: ["key.pem", "fullchain.pem", "ca.pem", "crl.pem"] } : {};
      hosts.set(number, eveningHost(service, join(dir, id(number)), id(number), files));
      await host(number).enrollWith(token);
    }
    const numbers = [11, 12, 13, 14, 15, 16];
    for (const number of numbers) hosts.set(number, eveningHost(service, join(dir, id(number)), id(number)));
    // Read from the hosts, out of band: what an operator compares before saying yes.
    const fingerprints = new Map<number, string | undefined>();
    for (const number of numbers)
      fingerprints.set(number, /sha256:[0-9a-f]{64}/.exec(await must(host(number).agent("key")))?.[0]);
    const waiting = numbers.map((number) => host(number).agent("enroll", "--wait-for-approval"));
    const requests = await untilListed<{ id: string; fingerprint: string }>(6);
    for (const number of numbers) {
      const request = requests.find((one) => one.fingerprint === fingerprints.get(number));
      assert.ok(request, `no request has the key of host ${number}`);
      if (number === 16) await service.run("approvals", "deny", request.id, "--yes");
      else await service.run("approvals", "approve", request.id, id(number), "--yes");
    }
    const ended = await Promise.all(waiting);
    assert.deepEqual(
      ended.map(({ code }) => code),
      [0, 0, 0, 0, 0, 1],
      ended.map(({ err }) => err).join("\n"),
    );
    assert.match(ended[5]?.err ?? "", /denied/);
  });

  async function untilListed<T>(atLeast: number): Promise<readonly T[]> {
    for (let attempt = 0; attempt < 100; attempt += 1) {
      const listed = await service.json<T[]>("approvals", "list");
      if (listed.length >= atLeast) return listed;
      await sleep(200);
    }
    throw new Error(`fewer than ${atLeast} requests wait`);
  }

  it("adds a viewer, who sees everything and revokes nothing", async () => {
    const { token } = await service.json<{ token: string }>("operator", "add", "eve@operators", "--role", "viewer");
    const home = { HOME: join(dir, "eve"), XDG_CONFIG_HOME: join(dir, "eve", "config"), NEWLEAF_DATA: "" };
    const { admin, enrollment, agents } = service.process.urls;
    const tokenFile = join(dir, "eve-token");
    writeFileSync(tokenFile, token, { mode: 0o600 });
    const viewer = (...args: string[]) => runProgram("newleaf", args, { env: home });
    await must(
      viewer("login", "--server", admin, "--enrollment", enrollment, "--agents", agents, "--token-file", tokenFile),
    );
    const listed = JSON.parse(await must(viewer("identity", "list", "--json"))) as unknown[];
    assert.ok(listed.length > count);
    const refused = await viewer("cert", "revoke", "--identity", id(7), "--yes");
    assert.equal(refused.code, 1);
    assert.match(refused.err, /needs the role operator.*not-permitted/s);
  });

  it("revokes one host and waits until every agent has confirmed; nginx refuses it", async () => {
    const front = host(6);
    nginx = await startNginx({
      dir: join(dir, "nginx"),
      certificate: join(front.current, "fullchain.pem"),
      key: join(front.current, "key.pem"),
      clientCa: join(front.current, "ca.pem"),
      crl: join(front.current, "crl.pem"),
    });
    const proxied = eveningHost(service, front.dir, front.id, {
      files: ["key.pem", "fullchain.pem", "ca.pem", "crl.pem"],
      reload: { signal: "HUP", pidFile: nginx.pidFile, process: "nginx" },
      probe: { connect: `127.0.0.1:${nginx.port}`, serverName: gateway, timeout: "5s" },
    });
    const running = runProgram("newleaf-agent", ["run", "--config", join(proxied.dir, "agent.yml")]);
    try {
      const thief = {
        cert: host(7).read("fullchain.pem"),
        key: host(7).read("key.pem"),
        ca: readFileSync(join(dataDir, "roots.pem"), "utf8"),
      };
      assert.equal((await visit(nginx.port, gateway, thief)).status, 200);
      // Heard of: its agent is connected.
      await untilTrue(
        "the agent has reported",
        async () => (await service.json<{ lastSeen: string | null }>("identity", "show", id(6))).lastSeen !== null,
      );
      await sleep(2_000);
      const said = await service.run(
        "cert",
        "revoke",
        "--identity",
        id(7),
        "--reason",
        "keyCompromise",
        "--wait",
        "30s",
        "--yes",
      );
      assert.match(said, /confirmed/i);
      assert.equal(
        (await visit(nginx.port, gateway, thief)).status,
        400,
        "nginx refuses it as soon as the command is back",
      );
    } finally {
      stopAgents(proxied.dir);
      await running;
    }
  });

  it("ends a conflict over a copied key", async () => {
    const copy = host(8).copyTo(join(dir, "copy-of-8"));
    await must(host(8).agent("renew", "--force"));
    const stolen = await copy.agent("renew", "--force");
    assert.equal(stolen.code, 1, stolen.out);
    assert.match(stolen.out + stolen.err, /lineage-locked/);
    const [locked, ...others] = await service.json<{ id: string; identity: string }[]>(
      "lineage",
      "list",
      "--state",
      "locked",
    );
    assert.ok(locked);
    assert.deepEqual([locked.identity, others], [id(8), []]);
    assert.match(await service.run("status"), new RegExp(id(8)));
    assert.match(await service.run("lineage", "show", locked.id), /127\.0\.0\.1|::1/);
    await service.run("lineage", "release", locked.id, "--yes");
    await must(host(8).agent("renew", "--force"));
  });

  it("brings an identity back whose certificate has expired", async () => {
    const { token } = await service.json<{ token: string }>("token", "create", id(count));
    hosts.set(count, eveningHost(service, join(dir, id(count)), id(count)));
    await host(count).enrollWith(token);
    const end = Date.parse(
      (await service.json<{ leaf: { notAfter: string } }>("identity", "show", id(count))).leaf.notAfter,
    );
    await sleep(Math.max(0, end - Date.now()) + 1_500);
    await host(count).agent("renew");
    await service.run("identity", "grant-recovery", id(count), "--ttl", "1h");
    await must(host(count).agent("renew"));
    const back = await service.json<{ leaf: { notAfter: string } | null }>("identity", "show", id(count));
    assert.ok(Date.parse(back.leaf?.notAfter ?? "") > end, "a fresh leaf is in force");
  });

  it("restores elsewhere: nothing is un-revoked, no serial comes twice, the CRL number is higher", async () => {
    await service.run("backup", "create");
    const [newest] = await service.json<{ path: string }[]>("backup", "list");
    backup = newest?.path ?? "";
    await must(runProgram("newleaf", ["backup", "verify", backup, "--keys", join(dataDir, "issuers")]));

    // Life goes on after it: another leaf, another revocation, one more renewal.
    const { token } = await service.json<{ token: string }>("token", "create", id(17));
    hosts.set(17, eveningHost(service, join(dir, id(17)), id(17)));
    await host(17).enrollWith(token);
    await must(host(9).agent("renew", "--force"));
    await service.run("cert", "revoke", "--identity", id(10), "--reason", "cessationOfOperation", "--yes");
    const before = await service.json<Listed[]>("cert", "list");
    const revoked = before
      .filter(({ state }) => state === "revoked" || state === "replaced")
      .map(({ serial }) => serial);
    const crlBefore = await newestCrl(service);
    await service.process.kill();

    const restored = join(dir, "restored");
    await must(
      runProgram("newleaf", [
        "backup",
        "restore",
        backup,
        "--data",
        restored,
        "--journal",
        env.NEWLEAF_JOURNAL,
        "--keys",
        join(dataDir, "issuers"),
      ]),
    );
    // The journal goes on where the service that was left off.
    service = await startEveningService(restored, env);
    const operators = ["--as", join(dataDir, "operators", "admin@operators")];
    const after = JSON.parse(await service.run("cert", "list", "--json", ...operators)) as Listed[];
    const states = new Map(after.map(({ serial, state }) => [serial, state]));
    for (const { serial } of before) assert.ok(states.has(serial), `${serial} was forgotten`);
    for (const serial of revoked) assert.match(states.get(serial) ?? "", /revoked|replaced/, serial);
    assert.equal(new Set(after.map(({ serial }) => serial)).size, after.length);
    const crlAfter = await newestCrl(service);
    assert.ok(crlAfter.number > crlBefore.number, `${crlAfter.number} after ${crlBefore.number}`);
    for (const serial of crlBefore.serials) assert.ok(crlAfter.serials.includes(serial), `${serial} is off the CRL`);

    // The fleet goes on where the restored service stands.
    host(9).speakTo(service);
    await must(host(9).agent("renew", "--force"));
    host(10).speakTo(service);
    assert.equal((await host(10).agent("renew", "--force")).code, 1);
    assert.match(await service.run("audit", "verify", ...operators), /holds/);
  });

  async function newestCrl({
    process: { urls },
  }: EveningService): Promise<{ number: bigint; serials: readonly string[] }> {
    const bundle = (await (await fetch(`${urls.public}/v1/bundle`)).json()) as {
      crls: readonly { issuer: string; number: number }[];
      issuers: readonly { id: string }[];
    };
    const issuer = bundle.issuers[0]?.id ?? "";
    const der = Buffer.from(await (await fetch(`${urls.public}/crl/${issuer}.crl`)).arrayBuffer());
    const text = execFileSync("openssl", ["crl", "-inform", "DER", "-noout", "-text"], {
      input: der,
      encoding: "utf8",
    });
    const number = /X509v3 CRL Number:[^\n]*\n\s+(\S+)/.exec(text)?.[1] ?? "0";
    return {
      number: BigInt(number),
      serials: [...text.matchAll(/Serial Number: ([0-9A-F]+)/g)].map(([, serial]) => serial ?? ""),
    };
  }
});

function stopAgents(dir: string): void {
  execFileSync("pkill", ["-TERM", "-f", join(dir, "agent.yml")]);
}

async function untilTrue(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    if (await holds()) return;
    await sleep(200);
  }
  throw new Error(`waited in vain: ${what}`);
}
