/** A service with a little of everything, fuzzed as viewer, then as admin; and what a viewer may not have changed. */
import assert from "node:assert/strict";
import { join } from "node:path";
import Database from "better-sqlite3";
import { call, csrFor, newKey, renew, settled, use } from "./agent-client.ts";
import { fuzzApi, type FuzzReport, readJudge } from "./api-fuzz.ts";
import { Known } from "./api-values.ts";
import { readTables } from "./database-tables.ts";
import { operatorsOfEachRole } from "./admin-clients.ts";
import { startService, type TestService } from "./service.ts";

/** Fails when an answer is not as the document says, a 500, or when the viewer changed something. */
export async function fuzzService(requests: number, seed: number): Promise<readonly FuzzReport[]> {
  await using service = await startService();
  using operators = await operatorsOfEachRole(service);
  await furnish(service);
  for (const client of [operators.viewer, operators.admin]) await client.send({ method: "GET", path: "/v1/status" });
  const judge = await readJudge(operators.viewer);
  const { items } = await service.admin<{ items: { id: string }[] }>("GET", "/v1/issuers");
  const ownLeaves = await service.admin<{ items: { serial: string; lineage: string; key: string }[] }>(
    "GET",
    "/v1/certificates?profile=operator",
  );
  const spare = ["@operators", ...items.map(({ id }) => id)].concat(
    ownLeaves.items.flatMap(({ serial, lineage, key }) => [serial, lineage, key]),
  );
  const reports: FuzzReport[] = [];
  for (const role of ["viewer", "admin"] as const) {
    const known = new Known(role === "viewer" ? [] : spare);
    for (const { id } of items) known.add("issuer", id);
    const before = tablesOf(service);
    const report = await fuzzApi(judge, {
      client: operators[role],
      requests: Math.ceil(requests / 2),
      seed: seed + reports.length,
      spare: role === "viewer" ? [] : spare,
      known,
    });
    const said = [...report.faults, ...faultsIn(service)].join("\n  ");
    assert.ok(report.faults.length === 0, `as ${role}, seed ${seed}:\n  ${said}`);
    if (role === "viewer") assertUnchanged(service, before);
    else
      assertReached(
        report,
        judge.operations.map(({ id }) => id),
      );
    reports.push(report);
  }
  return reports;
}

/** Identities of each kind, leaves of each state, a token, a request that waits, a locked lineage. */
async function furnish(service: TestService): Promise<void> {
  for (const id of ["web", "api", "held", "gone"]) await settled(service, id, { dns: [`${id}.claw.internal`] });
  const renewed = await renew(service, await settled(service, "renewed"));
  await use(service, renewed);
  const stale = await settled(service, "locked");
  await use(service, await renew(service, stale));
  await renew(service, stale).catch(() => undefined);
  await service.admin("POST", "/v1/revocations", { identity: "held", reason: "certificateHold" });
  await service.admin("POST", "/v1/revocations", { identity: "gone", reason: "keyCompromise" });
  await service.admin("POST", "/v1/tokens", { identity: "web" });
  await call(service, "enrollment", "POST", "/v1/enrollments", {
    body: { csr: csrFor(await newKey()), claim: "=waits" },
  });
}

function tablesOf(service: TestService): ReadonlyMap<string, readonly string[]> {
  return readTables(join(service.dataDir, "newleaf.db"));
}

/** What the service's log says of its own faults. */
function faultsIn(service: TestService): readonly string[] {
  return service.log.filter(({ level }) => Number(level) >= 50).map((line) => JSON.stringify(line).slice(0, 1500));
}

/** What a viewer leaves behind: audited refusals, and the memory of requests that carried an Idempotency-Key. */
const traces: ReadonlySet<string> = new Set(["audit", "idempotent_requests"]);

function assertUnchanged(service: TestService, before: ReadonlyMap<string, readonly string[]>): void {
  const after = tablesOf(service);
  assert.deepEqual([...after.keys()], [...before.keys()]);
  for (const [name, rows] of after) {
    if (!traces.has(name)) assert.deepEqual(rows, before.get(name), `the viewer changed ${name}`);
  }
  const database = new Database(join(service.dataDir, "newleaf.db"), { readonly: true });
  try {
    const known = before.get("audit")?.length ?? 0;
    const actions = database
      .prepare<[number], string>("SELECT DISTINCT action FROM audit WHERE seq > ?")
      .pluck()
      .all(known);
    assert.deepEqual(actions, ["request.refused"]);
    const keys = database.prepare<[], string>("SELECT DISTINCT operator FROM idempotent_requests").pluck().all();
    assert.deepEqual(
      keys.filter((operator) => operator !== "viewer@operators"),
      [],
    );
  } finally {
    database.close();
  }
}

/** Each operation was called and did something at least once: a fuzzer that only ever gets 400 finds nothing. */
function assertReached({ outcomes }: FuzzReport, ids: readonly string[]): void {
  const silent = ids.filter((id) => ![...outcomes.keys()].some((outcome) => new RegExp(`^${id} 2`).test(outcome)));
  if (outcomes.size > 0) assert.ok(silent.length <= ids.length / 3, `never succeeded: ${silent.join(", ")}`);
}
