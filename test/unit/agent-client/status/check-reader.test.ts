/** Who reads the files, judged by a process that runs. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { readerProblem } from "../../../../agent-client/status/check-reader.ts";
import type { Target } from "../../../../agent-client/install/target.ts";
import type { SignalStrategy } from "../../../../agent-client/reload/strategy.ts";
import { needsRoot } from "../../../support/programs.ts";

const target: Target = {
  directory: "/nowhere",
  files: ["key.pem", "fullchain.pem"],
  owner: null,
  group: null,
  mode: 0o600,
  links: {},
};
const [uid, gid] = [4711, 4712];

test(
  "a server that dropped root and would not be able to read its files is named, with whose they are",
  { skip: needsRoot("to start a process of another user") },
  async (t) => {
    const reload = await server(t, uid);
    const problem = (files: Target, owner: { uid: number; gid: number }): Promise<string | null> =>
      readerProblem(reload, files, owner);

    assert.match(
      (await problem(target, { uid: 0, gid: 0 })) ?? "",
      /^sleep \(pid \d+\) runs as uid 4711, and key\.pem will belong to 0:0 with mode 0600: .* set owner, or group and mode$/,
    );
    assert.equal(await problem(target, { uid, gid }), null);
    assert.notEqual(await problem(target, { uid: 0, gid }), null, "its group, and a mode that gives the group nothing");
    assert.equal(await problem({ ...target, mode: 0o640 }, { uid: 0, gid }), null);
    assert.match(
      (await problem({ ...target, mode: 0o644 }, { uid: 0, gid: 0 })) ?? "",
      /key\.pem will belong to 0:0 with mode 0640/,
      "the key is never for everybody",
    );
  },
);

test("a server that is root, is not running, or is told otherwise is not judged", async (t) => {
  const files = { uid: 65_000, gid: 65_000 };
  if (process.geteuid?.() === 0) assert.equal(await readerProblem(await server(t, 0), target, files), null);
  const reload: SignalStrategy = { kind: "signal", signal: "HUP", pidFile: "/nowhere/pid", process: "sleep" };
  assert.equal(await readerProblem(reload, target, files), null);
  assert.equal(await readerProblem({ kind: "watch" }, target, files), null);
});

async function server(t: { after(undo: () => void): void }, as: number): Promise<SignalStrategy> {
  const child = spawn("sleep", ["60"], { uid: as, gid: as === 0 ? 0 : gid, stdio: "ignore" });
  t.after(() => child.kill());
  await once(child, "spawn");
  const pidFile = join(mkdtempSync(join(tmpdir(), "newleaf-reader-")), "pid");
  writeFileSync(pidFile, String(child.pid));
  return { kind: "signal", signal: "HUP", pidFile, process: "sleep" };
}
