/**
 * What can go wrong between a renewal and a served certificate, each behind real nginx under load: nothing is lost, the old leaf is
 * served, an alarm says what to do, and once the cause is gone the agent gets there without a hand.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, existsSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { NetworkError } from "@newleaf/shared/http-client";
import { until } from "../support/agent.ts";
import {
  alarmOf,
  answerWith,
  beginStory,
  crlsWith,
  expiredCrl,
  presented,
  reloadWith,
  restartNginx,
  type Story,
  whyNotMount,
} from "../support/negative-story.ts";
import { needs } from "../support/programs.ts";

interface Case {
  readonly name: string;
  /** Makes it happen at the next renewal. @returns what takes the cause away */
  readonly inject: (story: Story) => Promise<() => Promise<void> | void>;
  /** What the alarm says, with its advice. */
  readonly alarm: RegExp;
  /** Nothing of the new set may be on disk; default true. */
  readonly keepsDisk?: boolean;
  /** A renewal gets through meanwhile, with the CRLs that are held. */
  readonly renews?: boolean;
  /** How nginx is told; default `signal`. */
  readonly by?: "command";
}

const cases: readonly Case[] = [
  {
    name: "a certificate for another key",
    inject: (story) => answerWith(story, (answer) => ({ ...answer, certificate: story.stranger.answer.certificate })),
    alarm: /certificate for another key/,
  },
  {
    name: "a truncated certificate",
    inject: (story) => answerWith(story, (answer) => ({ ...answer, certificate: answer.certificate.slice(0, 300) })),
    alarm: /./,
  },
  {
    name: "leaf and intermediate in the wrong order",
    inject: (story) =>
      answerWith(story, (answer) => ({ ...answer, certificate: answer.chain, chain: answer.certificate })),
    alarm: /./,
  },
  {
    name: "a missing intermediate",
    inject: (story) => answerWith(story, (answer) => ({ ...answer, chain: "" })),
    alarm: /chain/,
  },
  {
    name: "a key that nginx cannot read",
    // Somebody's chmod, at the worst moment.
    inject: async (story) => {
      const key = join(story.host.current, "key.pem");
      story.onCheckpoint = (name) => {
        if (name !== "link-switched") return;
        chownSync(key, 0, 0);
        chmodSync(key, 0o600);
      };
      return () => void (story.onCheckpoint = () => undefined);
    },
    alarm: /belongs to 0:0 instead of 65534:65534\. Find out who else/,
  },
  {
    name: "an expired CRL",
    inject: (story) => crlsWith(story, () => expiredCrl(story)),
    alarm: /CRL.*(expired|over|good only until|ended)/,
    renews: true,
  },
  {
    name: "the CRL of one CA is not to be had",
    inject: (story) =>
      crlsWith(story, () => {
        throw new NetworkError("protocol", "there is no such CRL");
      }),
    alarm: /CRL/,
    renews: true,
  },
  { name: "an empty CRL", inject: (story) => crlsWith(story, () => Buffer.alloc(0)), alarm: /CRL/, renews: true },
  {
    name: "a reload that returns 0 and does nothing",
    inject: (story) => reloadWith(story, "exit 0"),
    by: "command",
    alarm: /installed, not served.*still served[\s\S]*Reload it by hand/,
    keepsDisk: false,
  },
  {
    name: "a reload that hangs",
    inject: (story) => reloadWith(story, "exec sleep 600"),
    by: "command",
    alarm: /not served|timed out|no answer/,
    keepsDisk: false,
  },
  {
    name: "a pid file that names another process",
    inject: async ({ nginx }) => {
      const pid = await readFile(nginx.pidFile, "utf8");
      writeFileSync(nginx.pidFile, `${process.pid}\n`);
      return () => writeFileSync(nginx.pidFile, pid);
    },
    alarm: /not served.*(nothing was signalled|does not hold)/,
    keepsDisk: false,
  },
  {
    name: "a disk that is full",
    inject: async ({ directory }) => {
      const ballast = join(directory, "ballast");
      try {
        writeFileSync(ballast, Buffer.alloc(1_000_000));
      } catch {
        // Full now.
      }
      return () => rmSync(ballast);
    },
    alarm: /disk is full: free some space/,
  },
  {
    name: "a directory that is read-only",
    inject: async ({ directory }) => {
      execFileSync("mount", ["-o", "remount,ro", directory]);
      return () => void execFileSync("mount", ["-o", "remount,rw", directory]);
    },
    alarm: /read-only.*ReadWritePaths=/,
  },
  {
    name: "a directory that is gone",
    inject: async ({ directory }) => {
      const versions = join(directory, "gateway");
      renameSync(versions, `${versions}.gone`);
      writeFileSync(versions, "");
      return () => {
        rmSync(versions);
        rmSync(`${versions}.gone`, { recursive: true });
      };
    },
    alarm: /not a directory/,
    keepsDisk: false,
  },
];

for (const by of ["signal", "command"] as const) {
  describe(`nginx told by ${by}`, { skip: needs("nginx") || whyNotMount(), timeout: 900_000 }, () => {
    let story: Story;
    before(async () => void (story = await beginStory(by)));
    after(() => story[Symbol.asyncDispose]());
    for (const one of cases.filter((each) => (each.by ?? "signal") === by)) test(one.name, () => prove(story, one));

    if (by === "signal") {
      test("a proxy that was restarted under another pid is told all the same", async () => {
        const { agent } = story;
        const generation = agent.journal.state.current?.generation ?? 0;
        const pid = story.nginx.pid();
        await restartNginx(story);
        assert.notEqual(story.nginx.pid(), pid);
        agent.view.forced = true;
        agent.wake.now();
        await until(
          "the renewal is in force",
          () => agent.journal.state.current?.generation === generation + 1,
          60_000,
        );
        assert.equal(await presented(story), story.host.installed());
      });
    }
  });
}

async function prove(story: Story, { inject, alarm, keepsDisk = true, renews = false }: Case): Promise<void> {
  const { agent, host, load } = story;
  const old = await presented(story);
  const onDisk = host.installed();
  const generation = (): number => agent.journal.state.current?.generation ?? 0;
  const before = { generation: generation(), failures: load.failures.length, requests: load.requests };
  const logged = host.lines.length;
  const explained = (error: unknown): never => {
    throw new Error(`${String(error)}\nalarm: ${alarmOf(agent)}\n${host.lines.slice(logged).join("")}`);
  };

  const cure = await inject(story);
  agent.view.forced = true;
  agent.wake.now();
  try {
    await until(`the alarm ${alarm.source}`, () => alarm.test(alarmOf(agent)), 60_000);
    // Long enough for a second and a third attempt.
    await sleep(1500);
    assert.match(host.lines.slice(logged).join(""), / (warn|error) /, "the log says so");
    if (!renews) {
      assert.equal(await presented(story), old, "the old leaf is served");
      if (keepsDisk) assert.equal(host.installed(), onDisk, "the old set is on disk");
    }
    if (keepsDisk && existsSync(host.current))
      assert.ok(story.nginx.check().ok, "nginx would start from what is on disk");
  } catch (error) {
    explained(error);
  } finally {
    await cure();
  }
  const isOver = (): boolean => generation() > before.generation && alarmOf(agent) === "";
  await until("the new leaf is in force and all is quiet", isOver, 90_000).catch(explained);
  assert.equal(await presented(story), host.installed(), "the new leaf is served and on disk");
  assert.ok(story.nginx.check().ok, "nginx would start from it");
  assert.deepEqual(load.failures.slice(before.failures), [], `of ${load.requests - before.requests} requests`);
}
