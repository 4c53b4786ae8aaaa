/** An enrolled host with nginx under load on a small file system of its own, and ways to spoil it. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { adviceFor } from "../../agent-client/status/advice.ts";
import type { AgentContext } from "../../agent-client/context.ts";
import { authorityId } from "../../agent-client/install/material.ts";
import { retryKinds } from "../../agent-client/journal.ts";
import type { ServiceClient } from "../../agent-client/service-client.ts";
import { buildCrl } from "../../server/ca/crl.ts";
import { loadIssuer } from "../../server/keys/load-issuer.ts";
import { nginxFiles, runInBackground, type TestHost, testHost } from "./agent.ts";
import { addGateway, installFirst } from "./first-install.ts";
import { credentials, type Host, settled } from "./agent-client.ts";
import { type Nginx, startNginx } from "./nginx.ts";
import { startService, type TestService } from "./service.ts";
import { type Load, startLoad, visit, type Visitor } from "./steady-load.ts";

const serverName = "gateway.claw.internal";
/** nginx as its unprivileged images run it: it reads the key as this user, and so may be refused. */
const nobody = { uid: 65_534, gid: 65_534 };
const minute = 60_000;

/** The far side of the network, which a test may spoil. */
type SpoiledClient = { -readonly [Call in keyof ServiceClient]: ServiceClient[Call] };

export interface Story extends AsyncDisposable {
  readonly service: TestService;
  readonly host: TestHost;
  readonly agent: AgentContext;
  readonly client: SpoiledClient;
  readonly visitor: Visitor;
  /** Another identity with a certificate of its own. */
  readonly stranger: Host;
  /** A small file system that holds what the agent installs. */
  readonly directory: string;
  /** The script of `reload: { command: … }`. */
  readonly reloader: string;
  load: Load;
  nginx: Nginx;
  /** Called at each checkpoint of the agent. */
  onCheckpoint: (name: string) => void;
}

/** False when this process may mount a file system, else what it needs. */
export function whyNotMount(): string | false {
  if (process.geteuid?.() !== 0) return "needs root, to mount a small file system";
  const directory = mkdtempSync(join(tmpdir(), "newleaf-mount-"));
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", directory], { stdio: "pipe" });
    execFileSync("umount", [directory], { stdio: "pipe" });
    return false;
  } catch (error) {
    return `needs the right to mount a file system: ${(error as Error).message}`;
  } finally {
    rmdirSync(directory);
  }
}

export async function beginStory(by: "signal" | "command"): Promise<Story> {
  await using stack = new AsyncDisposableStack();
  const service = stack.use(await startService());
  chmodSync(service.dir, 0o711);
  const token = await addGateway(service, serverName);
  const hostDir = join(service.dir, "host");
  const directory = join(hostDir, "tls");
  mkdirSync(directory, { recursive: true });
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=384k,mode=755", "tmpfs", directory]);
  stack.defer(() => void execFileSync("umount", ["-l", directory]));
  const target = { directory: join(directory, "gateway"), files: nginxFiles, owner: nobody.uid, group: nobody.gid };
  const host = testHost(service, hostDir, target.directory);
  await installFirst(host, token, { ...target });
  const nginx = await serveFrom(host, join(service.dir, "nginx"));
  const reloader = join(hostDir, "reload.sh");
  writeReloader(reloader, goodReload(nginx));
  host.configure({
    ...target,
    reload: by === "command" ? { command: [reloader] } : { signal: "HUP", pidFile: nginx.pidFile, process: "nginx" },
    probe: { connect: `127.0.0.1:${nginx.port}`, serverName, timeout: "3s" },
  });
  const visitor = { ...credentials(await settled(service, "client-1")), ca: service.roots };
  const stranger = await settled(service, "stranger-1", { dns: ["stranger.claw.internal"] });
  let onCheckpoint = (_name: string): void => undefined;
  // No jitter: what would be minutes is seconds, and what is seconds a quarter of one.
  const app = stack.use(await host.open({ random: () => 0, checkpoint: (name) => onCheckpoint(name) }));
  stack.use(runInBackground(app));
  const [agent] = app.agents;
  assert.ok(agent);
  const kept = stack.move();
  const story: Story = {
    service,
    host,
    agent,
    client: app.client,
    visitor,
    stranger,
    directory,
    reloader,
    nginx,
    load: startLoad(nginx.port, serverName, visitor),
    get onCheckpoint() {
      return onCheckpoint;
    },
    set onCheckpoint(next) {
      onCheckpoint = next;
    },
    async [Symbol.asyncDispose]() {
      await story.load.stop();
      await story.nginx.stop();
      await kept.disposeAsync();
    },
  };
  return story;
}

/** Stops nginx and starts it again on another port's process, the same address. Visitors of that moment are not counted. */
export async function restartNginx(story: Story): Promise<void> {
  const { port } = story.nginx;
  await story.load.stop();
  await story.nginx.stop();
  story.nginx = await serveFrom(story.host, join(story.service.dir, "nginx"), port);
  story.load = startLoad(port, serverName, story.visitor);
}

function serveFrom(host: TestHost, dir: string, port?: number): Promise<Nginx> {
  return startNginx({
    dir,
    as: nobody,
    certificate: join(host.current, "fullchain.pem"),
    key: join(host.current, "key.pem"),
    clientCa: join(host.current, "ca.pem"),
    crl: join(host.current, "crl.pem"),
    ...(port === undefined ? {} : { port }),
  });
}

/** Fingerprint of the leaf that nginx presents now. */
export async function presented({ nginx, visitor }: Story): Promise<string> {
  return (await visit(nginx.port, serverName, visitor)).presented;
}

/** What status and report would show, with the advice; "" when nothing is wrong. */
export function alarmOf({ journal }: AgentContext): string {
  const { retries, notServed } = journal.state;
  const errors = retryKinds.flatMap((kind) => retries[kind].error ?? []);
  const lines = errors.map(({ code, message }) => `${message} ${adviceFor(code) ?? ""}`);
  return [...lines, ...(notServed === null ? [] : [`installed, not served: ${notServed.detail}`])].join("\n");
}

type Answer = Awaited<ReturnType<ServiceClient["renew"]>>;

/** The service answers renewals with something else. */
export async function answerWith({ client }: Story, spoil: (answer: Answer) => Answer): Promise<() => void> {
  const { renew } = client;
  client.renew = async (speaker, csr) => spoil(await renew(speaker, csr));
  return () => void (client.renew = renew);
}

/** The service publishes a new CRL of the issuing CA, and answers with something else in its place. */
export async function crlsWith({ client, service, stranger }: Story, spoil: () => Buffer): Promise<() => void> {
  const issuer = authorityId(new X509Certificate(stranger.answer.chain).raw);
  const { crl } = client;
  client.crl = async (speaker, id) => (id === issuer ? spoil() : crl(speaker, id));
  const gone = await settled(service, `gone-${Date.now()}`);
  await service.admin("POST", "/v1/revocations", { serial: gone.answer.serial, reason: "superseded" });
  return () => void (client.crl = crl);
}

/** One that the issuing CA signed, and that is over. */
export function expiredCrl({ service, stranger }: Pick<Story, "service" | "stranger">): Buffer {
  const keys = join(service.dataDir, "issuers");
  const file = readdirSync(keys).find((name) => name.endsWith(".key.pem"));
  assert.ok(file !== undefined);
  const issuer = loadIssuer(new X509Certificate(stranger.answer.chain).raw, join(keys, file));
  const now = Date.now();
  return buildCrl({ issuer, number: 1_000_000, thisUpdate: now - 2 * minute, nextUpdate: now - minute, revoked: [] });
}

/** The reload command does something else. */
export async function reloadWith({ reloader, nginx }: Story, line: string): Promise<() => void> {
  writeReloader(reloader, line);
  return () => writeReloader(reloader, goodReload(nginx));
}

function goodReload({ pidFile }: Nginx): string {
  return `kill -HUP "$(cat ${pidFile})"`;
}

function writeReloader(path: string, line: string): void {
  writeFileSync(path, `#!/bin/sh\n${line}\n`, { mode: 0o700 });
}
