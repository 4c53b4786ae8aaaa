/** Which leaf the metrics measure the proxy by. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseConfig } from "../../../agent-client/config/config.ts";
import { blankJournal, type Journal } from "../../../agent-client/journal.ts";
import { metricsOf } from "../../../agent-client/metrics.ts";
import { newer, old, servedOf, toldOf } from "../../support/decision-world.ts";

const trust = { version: 1, roots: [], issuers: [], crls: new Map() };
const serving: Journal = { ...blankJournal, current: old, told: toldOf(old), served: servedOf(old) };
const renewed: Journal = { ...serving, next: newer };
const charge = { version: "v", row: "broke", since: 0, detail: "", contents: null, clients: null };

function measure(journal: Journal, more = ""): readonly [matches: boolean, pending: boolean] {
  const text = `
server: https://a
enrollment: https://b
roots: /r.pem
certificates:
  - { name: a, directory: /a, reload: watch, probe: none${more} }
`;
  const [config] = parseConfig(text, "agent.yml").certificates;
  assert.ok(config);
  const { servedMatches, reloadPending } = metricsOf(config, journal, trust, { attempts: {}, canaries: [] });
  return [servedMatches, reloadPending];
}

const pins = ", beforeSwitch: { command: [x], wait: 1d }";

test("metrics: the newest leaf is to be served, unless it is announced or was taken back", () => {
  assert.deepEqual(measure(serving), [true, false]);
  assert.deepEqual(measure(renewed), [false, true], "a new leaf is on its way");
  assert.deepEqual(measure(renewed, pins), [true, false], "it is announced: nothing is wrong for a day");
  const takenBack = { ...renewed, quarantine: { ...charge, leaf: newer.fingerprint } };
  assert.deepEqual(measure(takenBack), [false, false], "not what should be, but what is installed is served");
  assert.deepEqual(measure(takenBack, pins), [false, false]);
  const lost = { ...serving, notServed: { version: "v", since: 0, detail: "" } };
  assert.deepEqual(measure(lost), [false, true]);
  const done = { ...renewed, told: toldOf(newer), served: servedOf(newer) };
  assert.deepEqual(measure(done, pins), [true, false]);
});
