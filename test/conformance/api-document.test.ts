/** The shell lines of docs/api.md run as they stand, top to bottom, against a real service. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { needs } from "../support/programs.ts";
import { startService } from "../support/service.ts";

const run = promisify(execFile);
const file = join(import.meta.dirname, "..", "..", "docs", "api.md");

test("every shell line of docs/api.md does what it says", { skip: needs("bash", "curl", "openssl") }, async () => {
  await using service = await startService();
  const document = await readFile(file, "utf8");
  const blocks = [...document.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, lines]) => lines ?? "");
  assert.ok(blocks.length >= 8, `${blocks.length} blocks of shell`);
  const marked = blocks.map((lines, index) => `printf '\\n== %s\\n' ${index}\n${lines}`).join("\n");

  const cwd = join(service.dir, "script");
  await mkdir(cwd);
  const { stdout } = await run("bash", ["-euo", "pipefail", "-c", marked], {
    cwd,
    env: {
      ...process.env,
      DATA: service.dataDir,
      AGENTS: service.urls.agents,
      ENROLLMENT: service.urls.enrollment,
      ADMIN: service.urls.admin,
      PUBLIC: service.urls.public,
    },
  }).catch((error: { stdout?: string; stderr?: string }) => {
    throw new Error(`${error.stdout ?? ""}\n${error.stderr ?? ""}`, { cause: error });
  });

  const outputs = stdout.split(/^== \d+\n/m).slice(1);
  /** Of the block that has this in it. */
  const outputOf = (part: string): string => outputs[blocks.findIndex((lines) => lines.includes(part))] ?? "";
  const published = outputOf('/roots.pem" |');
  const lists = outputOf("Idempotency-Key");
  const revoked = outputOf("/v1/revocations");
  assert.match(outputOf("gateway.pem -noout -subject"), /subject=.*CN = gateway-1/);
  assert.match(outputOf("/v1/approvals/$ID/decision"), /202$/m);
  assert.match(outputOf("/v1/renewals"), /^200\nnext\.pem: OK$/m);
  assert.match(outputOf("/v1/renewal-window"), /"reason":"schedule"/);
  assert.match(outputOf("/v1/changes"), /204$/m);
  assert.match(published, /304$/m);
  assert.match(published, /^nextUpdate=/m);
  const tokens = [...lists.matchAll(/"token":"([^"]+)"/g)].map(([, token]) => token);
  assert.deepEqual([tokens.length, new Set(tokens).size], [2, 1], "the same token, twice");
  assert.match(lists, /serial,identity,profile,state,/);
  assert.match(lists, /"openapi":"3\.1\.0"/);
  assert.match(revoked, /"code":"certificate-revoked"/);
  assert.match(revoked, /Key Compromise/);
});
