import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { findAgent, findDaemon } from "../../../../../server/cli/demo/programs.ts";

async function treeOf(t: TestContext, ...programs: readonly string[]): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), "newleaf-test-programs-"));
  t.after(() => rm(root, { recursive: true, force: true }));
  for (const program of programs) {
    await mkdir(join(root, program, ".."), { recursive: true });
    await writeFile(join(root, program), "#!/bin/sh\n", { mode: 0o755 });
  }
  return root;
}

test("findDaemon looks into the sbin beside each bin of PATH", async (t) => {
  const root = await treeOf(t, "usr/sbin/nginx");
  assert.equal(findDaemon({ PATH: `/nowhere:${root}/usr/bin` }, "nginx"), join(root, "usr/sbin/nginx"));
  assert.equal(findDaemon({ PATH: join(root, "usr/bin/") }, "nginx"), join(root, "usr/sbin/nginx"));
});

test("findDaemon prefers PATH, ignores what cannot be run, and finds nothing without PATH", async (t) => {
  const root = await treeOf(t, "usr/sbin/nginx", "opt/nginx");
  assert.equal(findDaemon({ PATH: `${root}/usr/bin:${root}/opt` }, "nginx"), join(root, "opt/nginx"));
  await writeFile(join(root, "plain"), "", { mode: 0o644 });
  assert.equal(findDaemon({ PATH: root }, "plain"), null);
  assert.equal(findDaemon({}, "nginx"), null);
});

test("findAgent takes the launcher of the checkout it runs from", () => {
  assert.equal(findAgent({}), join(import.meta.dirname, "../../../../..", "bin/newleaf-agent"));
});

test("findAgent takes the one installed beside newleaf, then one on PATH, else none", async (t) => {
  const root = await treeOf(
    t,
    "app/node_modules/.bin/newleaf-agent",
    "prefix/bin/newleaf-agent",
    "usr/bin/newleaf-agent",
  );
  const code = join(root, "app/node_modules/@newleaf/server/cli/demo");
  const elsewhere = join(root, "lib/node_modules/@newleaf/server/cli/demo");
  const path = { PATH: join(root, "usr/bin") };
  assert.equal(findAgent(path, { code, launcher: undefined }), join(root, "app/node_modules/.bin/newleaf-agent"));
  assert.equal(
    findAgent(path, { code: elsewhere, launcher: join(root, "prefix/bin/newleaf") }),
    join(root, "prefix/bin/newleaf-agent"),
  );
  assert.equal(findAgent(path, { code: elsewhere, launcher: undefined }), join(root, "usr/bin/newleaf-agent"));
  assert.equal(findAgent({}, { code: elsewhere, launcher: undefined }), null);
});
