/** What containers see of a renewal: mounts as a container engine makes them, and a pod that starts again with an empty volume. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, mkdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { stringify } from "yaml";
import { enrollCommand } from "../../agent-client/commands.ts";
import { stage } from "../../agent-client/install/stage.ts";
import { switchTo } from "../../agent-client/install/switch.ts";
import type { Target } from "../../agent-client/install/target.ts";
import { createLog } from "../../agent-client/log.ts";
import { testHost } from "../support/agent.ts";
import { startService } from "../support/service.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

/** Mounts of its own need a right that tests often lack: then there is nothing to look at. */
const cannotMount =
  spawnSync("unshare", ["--mount", "--propagation", "private", "true"]).status !== 0 &&
  "needs root and a kernel that allows mount namespaces (unshare --mount)";

test(
  "a renewal is seen through a mount of the parent directory, and never through one of `current` or of a single file",
  {
    skip: cannotMount,
  },
  async () => {
    const home = temporaryDirectory("mounts");
    const directory = join(home, "gateway");
    const target: Target = {
      directory,
      files: ["key.pem"],
      owner: null,
      group: null,
      mode: 0o600,
      links: {},
    };
    const put = async (content: string, at: number): Promise<void> => {
      const contents = new Map([["key.pem" as const, Buffer.from(content)]]);
      const { version } = await stage(target, contents, {
        fingerprint: `sha256:${String(at).repeat(64)}`,
        notAfter: 4_000_000_000_000,
        bundleVersion: 1,
        crlNumbers: {},
        stagedAt: at * 1000,
      });
      await switchTo(target, version);
    };
    await put("first", 1);
    const mounts = ["parent", "link", "file"].map((name) => join(home, name));
    const [parent = "", link = "", file = ""] = mounts;
    mkdirSync(parent);
    mkdirSync(link);
    writeFileSync(file, "");

    const container = spawn("unshare", ["--mount", "--propagation", "private", "sh", "-euc", containerScript], {
      env: { ...process.env, DIRECTORY: directory, PARENT: parent, LINK: link, FILE: file },
      stdio: ["pipe", "pipe", "inherit"],
    });
    const lines = createInterface({ input: container.stdout })[Symbol.asyncIterator]();
    const look = async (): Promise<string> => {
      container.stdin.write("look\n");
      return String((await lines.next()).value);
    };
    assert.equal(await look(), "parent=first link=first file=first");
    await put("second", 2);
    assert.equal(await look(), "parent=second link=first file=first");
    container.stdin.end();
  },
);

/** What `-v A:B` does, three times; then says on request what is seen. */
const containerScript = `
  mount --bind "$DIRECTORY" "$PARENT"
  mount --bind "$DIRECTORY/current" "$LINK"
  mount --bind "$DIRECTORY/current/key.pem" "$FILE"
  while read -r _; do
    echo "parent=$(cat "$PARENT/current/key.pem") link=$(cat "$LINK/key.pem") file=$(cat "$FILE")"
  done`;

test("a pod that starts again with an empty volume gets its files from `state`, also while the service is away", async () => {
  await using service = await startService();
  const token = await service.token("gateway-0", { dns: ["gateway.claw.internal"] });
  const host = testHost(service, join(service.dir, "pod"));
  const files = ["tls.crt", "tls.key", "ca.crt", "crl.pem"];
  host.configure({ files, reload: "watch", probe: "none" });
  const said: string[] = [];
  const terminal = { out: (line: string) => void said.push(line), error: (line: string) => void said.push(line) };
  // As the init container of deploy/kubernetes does, with the same spent token each time.
  const enroll = () =>
    enrollCommand(
      { config: host.configFile, name: null, token, waitForApproval: false, adopt: false },
      terminal,
      AbortSignal.any([]),
      { log: createLog((line) => void said.push(line), Date.now) },
    );
  assert.equal(await enroll(), 0, said.join(""));
  const first = host.file("tls.crt");

  rmSync(join(host.dir, "gateway"), { recursive: true });
  assert.equal(await enroll(), 0, said.join(""));
  assert.equal(host.file("tls.crt"), first, "no other certificate is asked for");

  rmSync(join(host.dir, "gateway"), { recursive: true });
  await service.server[Symbol.asyncDispose]();
  await enroll();
  assert.equal(host.file("tls.crt"), first, said.join(""));
  assert.match(host.file("tls.key"), /PRIVATE KEY/);
});

/** Of nginx's images. */
const user = { uid: 101, gid: 101 };
const main = join(import.meta.dirname, "../../agent-client/main.ts");
const cannotBecomeAnother =
  spawnSync(process.execPath, [main, "--version"], user).status !== 0 &&
  "needs root, and a checkout that other users can read";

test(
  "an agent that is not root makes its directories in volumes that are root's and its group's, as a pod gives them",
  {
    skip: cannotBecomeAnother,
  },
  async () => {
    await using service = await startService();
    chmodSync(service.dir, 0o711);
    chmodSync(service.dataDir, 0o711);
    const token = await service.token("gateway-0", { dns: ["gateway.claw.internal"] });
    const volume = (name: string): string => {
      const path = join(service.dir, name);
      mkdirSync(path);
      chownSync(path, 0, user.gid);
      // What fsGroup makes of a volume.
      chmodSync(path, 0o2775);
      return path;
    };
    const [tls, state] = [volume("tls"), volume("state")];
    const tokenFile = join(service.dir, "token");
    writeFileSync(tokenFile, token, { mode: 0o440 });
    chownSync(tokenFile, 0, user.gid);
    const config = join(service.dir, "init.yml");
    const certificate = { name: "gateway", directory: join(tls, "gateway"), files: ["tls.crt", "tls.key"] };
    const settings = { owner: user.uid, group: user.gid, reload: "watch", probe: "none" };
    writeFileSync(
      config,
      stringify({
        server: service.urls.agents,
        enrollment: service.urls.enrollment,
        state: join(state, "gateway"),
        certificates: [{ ...certificate, ...settings }],
      }),
    );
    const agent = spawn(process.execPath, [main, "enroll", "--config", config, "--token-file", tokenFile], {
      ...user,
      stdio: ["ignore", "pipe", "pipe"],
    });
    const said = Promise.all([text(agent.stdout), text(agent.stderr)]);
    const [code] = (await once(agent, "exit")) as [number | null];
    assert.equal(code, 0, (await said).join(""));
    const key = statSync(join(tls, "gateway", "current", "tls.key"));
    assert.deepEqual([key.mode & 0o777, key.uid, key.gid], [0o600, user.uid, user.gid]);
    assert.equal(statSync(join(state, "gateway")).mode & 0o777, 0o700);
  },
);
