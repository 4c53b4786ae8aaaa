/** Ten thousand identities in one file: planned, applied, exported and planned again in seconds, while the service goes on answering. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { operatorCommands } from "../support/operator-commands.ts";
import { startService } from "../support/service.ts";

const size = 10_000;
/** On two cores beside other work; alone it takes a third of it. */
const allowedMs = 30_000;

test(`${size} identities in one file`, async (context) => {
  await using service = await startService({ NEWLEAF_LOG_LEVEL: "warn" });
  const { must, json } = operatorCommands(service);
  const key = (index: number) => `sha256:${index.toString(16).padStart(64, "0")}`;
  const entries = Array.from({ length: size }, (_, index) => {
    const names = `{ dns: [host-${index}.claw.internal, all.claw.internal], ip: [10.1.${index >> 8}.${index & 255}] }`;
    return `  - { id: host-${index}, profile: gateway, names: ${names}, keys: ["${key(index)}"], labels: { site: "s${index % 9}" }, owner: Kim }`;
  });
  const file = join(service.dir, "inventory.yml");
  writeFileSync(file, `identities:\n${entries.join("\n")}\n`);

  const timed = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
    const begun = performance.now();
    const result = await work();
    const took = performance.now() - begun;
    context.diagnostic(`${what}: ${(took / 1000).toFixed(1)} s`);
    assert.ok(took < allowedMs, `${what} took ${took} ms`);
    return result;
  };
  const plan = await timed("dry run", () => must(["inventory", "apply", "-f", file, "--dry-run"]));
  assert.match(plan, new RegExp(`^Plan: ${size} to add, 0 to change`, "m"));
  assert.match(plan, /^warning: all\.claw\.internal is shared by host-0, .* and 9990 more$/m);
  await timed("apply", () => must(["inventory", "apply", "-f", file]));
  const exported = await timed("export", () => must(["inventory", "export"]));
  writeFileSync(file, exported);
  const again = await timed("dry run of the export", () =>
    json<{ changes: readonly { kind: string }[] }>("inventory", "apply", "-f", file, "--dry-run", "--prune"),
  );
  assert.equal(again.changes.length, size);
  assert.ok(
    again.changes.every(({ kind }) => kind === "unchanged"),
    "what is exported is what is there",
  );
});
