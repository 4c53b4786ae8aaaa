/**
 * The admin API under tens of thousands of requests made from its own document, as viewer and as admin: no 500, no status or shape
 * that is not documented, and nothing changed by the viewer. `FUZZ_SEED` and `FUZZ_REQUESTS` repeat a run.
 */
import { it } from "node:test";
import { fuzzService } from "../support/fuzzed-service.ts";

const requests = Number(process.env["FUZZ_REQUESTS"] ?? 40_000);
const seed = Number(process.env["FUZZ_SEED"] ?? (Date.now() % 1_000_000) + 1);

it(`the admin API answers ${requests} requests as its document says, and a viewer changes nothing`, async (context) => {
  const reports = await fuzzService(requests, seed);
  for (const [index, { requests: sent, seconds, outcomes }] of reports.entries()) {
    const list = [...outcomes].toSorted(([a], [b]) => (a < b ? -1 : 1));
    context.diagnostic(`${["viewer", "admin"][index]}, seed ${seed}: ${sent} requests in ${seconds.toFixed(1)} s`);
    context.diagnostic(list.map(([outcome, count]) => `${outcome} ×${count}`).join(", "));
  }
});
