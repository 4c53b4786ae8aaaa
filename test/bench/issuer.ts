/**
 * How long it takes to revoke an issuer with 100,000 leaves, and what others notice meanwhile: a write of theirs all the time, and the
 * delay of the event loop. The leaves are rows of the usual size, not real certificates. `bin/node test/bench/issuer.ts [leaves]`
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import Database from "better-sqlite3";
import { systemCaller, type Caller } from "../../server/authority/authority.ts";
import { revokeIssuer } from "../../server/authority/revocation/revoke-issuer.ts";
import { addSecondIssuer } from "../support/second-issuer.ts";
import { startService } from "../support/service.ts";

const leaves = Number(process.argv[2] ?? 100_000);
const day = 86_400_000;

await using service = await startService();
const { first } = await addSecondIssuer(service);
fill(join(service.dataDir, "newleaf.db"), first);

const { authority } = service.server;
const caller: Caller = { ...systemCaller("bench"), actorKind: "operator", actor: "admin@operators", role: "admin" };
const delay = monitorEventLoopDelay({ resolution: 5 });
let isDone = false;
const pings: number[] = [];
async function ping(): Promise<void> {
  while (!isDone) {
    const begun = performance.now();
    await authority.store.ping();
    pings.push(performance.now() - begun);
  }
}
const pinging = ping();
delay.enable();
const begun = performance.now();
const outcome = await revokeIssuer(authority, caller, first, "cACompromise");
// Whoever has that many is answered before the end, and may ask again.
for (let { crls } = outcome; crls.some(({ number }) => number === null);)
  ({ crls } = await revokeIssuer(authority, caller, first, "cACompromise"));
const took = performance.now() - begun;
isDone = true;
delay.disable();
await pinging;
const sorted = pings.toSorted((a, b) => a - b);
const at = (share: number): string => (sorted[Math.floor((sorted.length - 1) * share)] ?? 0).toFixed(0);
const crl = authority.issuers.crls.get(first);
process.stdout.write(
  `${outcome.total} leaves in ${(took / 1000).toFixed(1)} s, CRL of ${((crl?.der.length ?? 0) / 1e6).toFixed(1)} MB\n`,
);
process.stdout.write(
  `another write meanwhile: p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, most ${at(1)} ms of ${pings.length}\n`,
);
process.stdout.write(
  `event loop: p99 ${(delay.percentile(99) / 1e6).toFixed(0)} ms, most ${(delay.max / 1e6).toFixed(0)} ms\n`,
);

function fill(path: string, issuer: string): void {
  const database = new Database(path, { timeout: 10_000 });
  database.pragma("foreign_keys = ON");
  const identity = database.prepare(
    `INSERT INTO identities (id, profile, state, revision, created_at, updated_at, names, labels)
     VALUES (?, 'gateway', 'active', 1, ?, ?, '{"dns":[],"ip":[],"uri":[],"email":[]}', '{}')`,
  );
  const certificate = database.prepare(
    `INSERT INTO certificates (serial, issuer_id, identity, profile, kind, generation, state, key_fingerprint, fingerprint,
       not_before, not_after, issued_at, renewal_start, renewal_end, der)
     VALUES (?, ?, ?, 'gateway', 'enrollment', 1, 'current', ?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  const now = Date.now();
  database.transaction(() => {
    for (let index = 0; index < leaves; index += 1) {
      const id = `filled-${index}`;
      const end = now + (index % 30) * day + day;
      const hash = (): string => `sha256:${randomBytes(32).toString("hex")}`;
      identity.run(id, now, now);
      const times = [now, end, now, end - 10 * day, end - 8 * day];
      certificate.run(
        `4${randomBytes(16).toString("hex").slice(1)}`,
        issuer,
        id,
        hash(),
        hash(),
        ...times,
        randomBytes(640),
      );
    }
  })();
  database.close();
}
