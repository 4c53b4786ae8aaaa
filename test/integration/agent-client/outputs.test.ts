/** What the agent puts on disk besides its own files, with a real service: stores, templates, copies, tmpfs, the system's trust store. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { createPrivateKey, X509Certificate } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { createSecureContext } from "node:tls";
import { parse } from "yaml";
import { passOnce } from "../../../agent-client/agent.ts";
import { checkCommand, enrollCommand, renewCommand, statusCommand } from "../../../agent-client/commands.ts";
import { createLog } from "../../../agent-client/log.ts";
import type { AgentStatus } from "../../../agent-client/status/shape.ts";
import { type TestHost, testHost, until, runInBackground } from "../../support/agent.ts";
import { needs, needsRoot } from "../../support/programs.ts";
import { serve } from "../../support/service-process.ts";
import { startService, type TestService } from "../../support/service.ts";

const idle = new AbortController().signal;
const quiet = { log: createLog(() => {}, Date.now) };
const program = join(import.meta.dirname, "..", "..", "support", "killable-agent.ts");
const asRoot = needsRoot("to mount a tmpfs");

function capture() {
  const text = { out: "", error: "" };
  return { text, out: (more: string) => void (text.out += more), error: (more: string) => void (text.error += more) };
}

interface Stage {
  readonly service: TestService;
  readonly host: TestHost;
  /** A path beside the host's own. */
  place(...parts: readonly string[]): string;
  enroll(): Promise<ReturnType<typeof capture>>;
  renew(force?: boolean): Promise<ReturnType<typeof capture> & { code: number }>;
}

async function onStage(story: (stage: Stage) => Promise<void>): Promise<void> {
  await using service = await startService();
  const host = testHost(service, join(service.dir, "host"));
  const options = { config: host.configFile, name: null, adopt: false };
  const names = { dns: ["gateway.claw.internal"], ip: [], uri: [], email: [] };
  await service.admin("POST", "/v1/identities", { id: "gateway-1", profile: "gateway", names });
  await story({
    service,
    host,
    place: (...parts) => join(host.dir, ...parts),
    async enroll() {
      const terminal = capture();
      const token = await service.token("gateway-1");
      const code = await enrollCommand({ ...options, token, waitForApproval: false }, terminal, idle, quiet);
      assert.equal(code, 0, terminal.text.error);
      return terminal;
    },
    async renew(force = false) {
      const terminal = capture();
      return { ...terminal, code: await renewCommand({ ...options, force }, terminal, idle, quiet) };
    },
  });
}

function isPair(certificate: string, key: string): boolean {
  return new X509Certificate(readFileSync(certificate)).checkPrivateKey(createPrivateKey(readFileSync(key)));
}

test("one set in every form that programs ask for, and in a new one whenever its template or passphrase changes", async () => {
  await onStage(async ({ host, place, enroll, renew }) => {
    const [template, passphraseFile, told] = [place("gw.yml.tmpl"), place("passphrase"), place("told")];
    writeFileSync(
      template,
      "id: {{ identity }}\ntls:\n  cert: |\n    {{ fullchain.pem }}\n  key: |\n    {{ key.pem }}\n",
    );
    writeFileSync(passphraseFile, "changeit\n", { mode: 0o600 });
    mkdirSync(place("app"));
    host.configure({
      files: ["tls.crt", "tls.key", "ca.crt", "crl.pem", "keystore.p12", "truststore.p12"],
      passphraseFile,
      template: { from: template, to: place("app", "gw.yml") },
      copies: { [place("app", "server.key")]: "tls.key", [place("app", "server.crt")]: "tls.crt" },
      maxFileBytes: 65_536,
      reload: { command: ["sh", "-c", `echo told >>${told}`] },
      probe: "none",
    });
    const before = capture();
    await checkCommand({ config: host.configFile }, before);
    assert.match(before.text.out, /ok {3}gateway: template .*gw\.yml\.tmpl for gw\.yml/);
    assert.match(before.text.out, /ok {3}gateway: copy .*server\.key/);
    assert.match(before.text.out, /ok {3}gateway: passphrase file/);
    await enroll();
    const count = (): number => readFileSync(told, "utf8").trim().split("\n").length;
    assert.equal(count(), 1);

    assert.ok(isPair(place("app", "server.crt"), place("app", "server.key")));
    const rendered = (): { id: string; tls: { cert: string; key: string } } =>
      parse(readFileSync(place("app", "gw.yml"), "utf8")) as ReturnType<typeof rendered>;
    assert.deepEqual(rendered(), { id: "gateway-1", tls: { cert: host.file("tls.crt"), key: host.file("tls.key") } });
    assert.equal(readlinkSync(place("app", "gw.yml")), join(host.current, "gw.yml"));
    const opens = (passphrase: string): void =>
      void createSecureContext({ pfx: readFileSync(join(host.current, "keystore.p12")), passphrase });
    opens("changeit");

    // Nothing changed: nothing is installed, nobody is told.
    const version = readlinkSync(host.current);
    assert.equal((await renew()).code, 0);
    assert.deepEqual([readlinkSync(host.current), count()], [version, 1]);

    writeFileSync(template, readFileSync(template, "utf8").replace("id:", "name:"));
    assert.equal((await renew()).code, 0);
    assert.match(readFileSync(place("app", "gw.yml"), "utf8"), /^name: gateway-1\n/);
    assert.notEqual(readlinkSync(host.current), version);
    assert.equal(count(), 2, "the server is told");

    writeFileSync(passphraseFile, "changed!\n");
    assert.equal((await renew()).code, 0);
    opens("changed!");
    assert.equal(count(), 3);

    // A renewal changes all of them together.
    const serial = new X509Certificate(host.file("tls.crt")).serialNumber;
    assert.equal((await renew(true)).code, 0);
    assert.notEqual(new X509Certificate(host.file("tls.crt")).serialNumber, serial);
    assert.ok(isPair(place("app", "server.crt"), place("app", "server.key")));
    assert.equal(readFileSync(place("app", "server.crt"), "utf8"), host.file("tls.crt"));
    opens("changed!");
    assert.equal(count(), 4);
  });
});

test("a broken template or a file that is too large is said and changes nothing, and renewal goes on", async () => {
  await onStage(async ({ host, place, enroll, renew }) => {
    const template = place("t");
    const settings = {
      files: ["key.pem", "fullchain.pem"],
      template: { from: template, to: "gw" },
      reload: "watch",
      probe: "none",
    };
    writeFileSync(template, "{{ serial }}\n");
    host.configure(settings);
    await enroll();
    const [version, serial] = [readlinkSync(host.current), host.file("gw")];

    writeFileSync(template, "{{ serail }}\n");
    const broken = await renew();
    assert.equal(broken.code, 1);
    assert.match(broken.text.error, /unknown placeholder "serail"; did you mean "serial"/);
    assert.equal(readlinkSync(host.current), version);
    const found = capture();
    assert.equal(await checkCommand({ config: host.configFile }, found), 1);
    assert.match(found.text.out, /fail gateway: line 1 of the template/);
    const renewed = await renew(true);
    assert.equal(renewed.code, 1);
    assert.match(renewed.text.out, /renewed, serial/, "the new leaf is held, and waits for its files");
    assert.equal(host.file("gw"), serial);

    writeFileSync(template, "{{ serial }}\n");
    host.configure({ ...settings, maxFileBytes: 300 });
    const large = await renew();
    assert.equal(large.code, 1);
    assert.match(large.text.error, /preflight-size: .* bytes and maxFileBytes is 300/);
    host.configure(settings);
    assert.equal((await renew()).code, 0);
    assert.notEqual(host.file("gw"), serial);
  });
});

test(
  "a key directory that a reboot has emptied is filled again from state, without the service",
  { skip: asRoot },
  async () => {
    await onStage(async ({ service, host, place, enroll, renew }) => {
      const tmpfs = place("run");
      mkdirSync(tmpfs);
      const mount = (): void =>
        void execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m,mode=0755", "newleaf-test", tmpfs]);
      mount();
      try {
        const directory = join(tmpfs, "tls", "gateway");
        const copy = join(tmpfs, "server.key");
        host.configure({ directory, copies: { [copy]: "key.pem" }, reload: "watch", probe: "none" });
        await enroll();
        const leaf = readFileSync(join(directory, "current", "fullchain.pem"), "utf8");
        await service.server[Symbol.asyncDispose]();
        execFileSync("umount", [tmpfs]);
        mount();
        assert.deepEqual(readdirSync(tmpfs), []);
        // 1: the service could not be asked for news. The files are there all the same.
        await renew();
        assert.equal(readFileSync(join(directory, "current", "fullchain.pem"), "utf8"), leaf);
        assert.ok(isPair(join(directory, "current", "fullchain.pem"), copy));
        const status = capture();
        await statusCommand({ config: host.configFile, json: true }, status);
        const [certificate] = (JSON.parse(status.text.out) as AgentStatus).certificates;
        assert.deepEqual(certificate?.installed?.problems, []);
      } finally {
        execFileSync("umount", [tmpfs]);
      }
    });
  },
);

test("a file that stands where a copy should be is refused, and adopted when asked", async () => {
  await onStage(async ({ host, place, enroll }) => {
    const path = place("server.key");
    host.configure({ copies: { [path]: "key.pem" }, reload: "watch", probe: "none" });
    writeFileSync(path, "theirs");
    const terminal = capture();
    await assert.doesNotReject(checkCommand({ config: host.configFile }, terminal));
    assert.match(
      terminal.text.out,
      /fail gateway: .*server\.key is a file that the agent did not make: run once with --adopt/,
    );
    await assert.rejects(enroll(), /the agent did not make/);
    assert.equal(readFileSync(path, "utf8"), "theirs");
    assert.ok(!existsSync(place("gateway", "versions")), "nothing touches the disk before everything can be put there");
    await using app = await host.open({}, { adopt: true });
    const [agent] = app.agents;
    assert.ok(agent);
    await passOnce(agent, { force: false }, idle);
    assert.equal(readFileSync(path, "utf8"), host.file("key.pem"));
    assert.equal(readFileSync(`${path}.before-newleaf`, "utf8"), "theirs");
    assert.match(host.lines.join(""), /adopted .*server\.key\.before-newleaf/);
  });
});

test(
  "killed at any step while it writes copies, the agent has them whole again as soon as it starts",
  { timeout: 180_000 },
  async () => {
    await onStage(async ({ service, host, place, enroll }) => {
      const [key, certificate] = [place("server.key"), place("server.crt")];
      const settings = { copies: { [key]: "key.pem", [certificate]: "fullchain.pem" }, reload: "watch", probe: "none" };
      host.configure(settings);
      await enroll();
      // The children block this process while they run: the service has to be another one.
      await service.server[Symbol.asyncDispose]();
      const running = await serve(service.dataDir);
      try {
        const moved = testHost({ urls: running.urls, rootsFile: service.rootsFile }, host.dir);
        moved.configure(settings);
        const run = (count: number, mode: string) =>
          spawnSync(process.execPath, [program, moved.configFile, String(count), mode], { encoding: "utf8" });
        const places: string[] = [];
        let torn = 0;
        for (let count = 1; ; count += 1) {
          const killed = run(count, "force");
          const step = killed.stdout.trim().split("\n").at(-1) ?? "";
          if (killed.signal === null) break;
          places.push(step);
          if (step !== "copies-prepared" && !step.startsWith("copied ")) {
            assert.ok(isPair(certificate, key), step);
            continue;
          }
          if (!isPair(certificate, key)) torn += 1;
          const lines: string[] = [];
          await using app = await moved.open({ log: createLog((line) => void lines.push(line), Date.now) });
          assert.ok(isPair(certificate, key), `at the start after ${step}`);
          assert.match(lines.join(""), /warn copies-finished/, step);
          assert.equal(app.agents.length, 1);
        }
        assert.equal(places.filter((step) => step.startsWith("copied ")).length, 2, places.join(", "));
        assert.equal(torn, 1, "between key and certificate there was no pair, or this test tests nothing");
        assert.equal(readFileSync(certificate, "utf8"), moved.file("fullchain.pem"));
        assert.ok(isPair(certificate, key));
      } finally {
        await running.stop();
      }
    });
  },
);

test(
  "systemTrust: enroll, renew and run keep the system's store, and status and the exit code say when not",
  { skip: needs("update-ca-certificates") },
  async () => {
    await onStage(async ({ host, place, enroll, renew }) => {
      const [local, etc, none, broken] = [place("local"), place("etc"), place("none"), place("broken")];
      for (const path of [local, etc, none]) mkdirSync(path);
      writeFileSync(place("conf"), "");
      const line = `update-ca-certificates --localcertsdir ${local} --certsdir ${none} --certsconf ${place("conf")} --etccertsdir ${etc} --hooksdir ${none}`;
      writeFileSync(place("take-in"), `#!/bin/sh\ntest ! -e ${broken} || exit 3\nexec ${line}\n`);
      chmodSync(place("take-in"), 0o700);
      const systemTrust = { directory: local, command: [place("take-in")] };
      host.configure(
        { files: ["key.pem", "fullchain.pem", "ca.pem", "crl.pem"], reload: "watch", probe: "none" },
        { systemTrust },
      );
      const found = capture();
      await checkCommand({ config: host.configFile }, found);
      assert.match(found.text.out, /ok {3}systemTrust: /);
      await enroll();
      execFileSync(
        "openssl",
        [
          "verify",
          "-no-CAfile",
          "-no-CAstore",
          "-CApath",
          etc,
          "-untrusted",
          join(host.current, "fullchain.pem"),
          join(host.current, "fullchain.pem"),
        ],
        { stdio: "pipe" },
      );
      const [file = ""] = readdirSync(local);

      rmSync(join(local, file));
      writeFileSync(broken, "");
      const failed = await renew();
      assert.equal(failed.code, 1);
      assert.match(failed.text.error, /systemTrust: the system's trust store was not renewed: .*exit code 3/);
      const status = capture();
      await statusCommand({ config: host.configFile, json: false }, status);
      assert.match(status.text.out, /system trust store .* has not taken in the roots yet; FAILED at .*exit code 3/);

      rmSync(broken);
      assert.equal((await renew()).code, 0);
      rmSync(join(local, file));
      await using app = await host.open();
      await using running = runInBackground(app);
      await until("run puts it back", () => existsSync(join(local, file)));
      await running[Symbol.asyncDispose]();
    });
  },
);
