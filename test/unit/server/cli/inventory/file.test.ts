import assert from "node:assert/strict";
import { suite, test } from "node:test";
import * as fc from "fast-check";
import { parseInventory, writeInventory } from "../../../../../server/cli/inventory/file.ts";
import { isAppError } from "../../../../support/errors.ts";

function faults(text: string): string {
  try {
    parseInventory(text, "inventory.yml");
  } catch (error) {
    assert(isAppError(error, "request-invalid"));
    return error.message;
  }
  return assert.fail("it was accepted");
}

suite("inventory.yml", () => {
  test("the example of the documentation is read, and what is left out is empty", () => {
    const key = `sha256:${"3b".repeat(32)}`;
    const text = `identities:
  - id: gateway-1
    profile: gateway
    names: { dns: [gateway.claw.internal], ip: [10.0.1.42], uri: [], email: [] }
    keys: [${key}]
    labels: { site: lab }
  - { id: a, profile: agent, names: }
`;
    assert.deepEqual(parseInventory(text, "f"), [
      {
        id: "gateway-1",
        profile: "gateway",
        names: { dns: ["gateway.claw.internal"], ip: ["10.0.1.42"], uri: [], email: [] },
        keys: [key],
        labels: { site: "lab" },
      },
      { id: "a", profile: "agent", names: { dns: [], ip: [], uri: [], email: [] }, keys: [], labels: {} },
    ]);
  });

  test("every fault is named with its place", () => {
    const message = faults(
      "identities:\n  - {id: a, profile: king}\n  - {id: b, profile: agent, names: {dns: x}, labels: {n: 5}}\n",
    );
    assert.match(message, /identities\[0\] \(a\) profile/);
    assert.match(
      faults("identities:\n  - {id: a}\n"),
      /identities\[0\] \(a\) profile is missing; it is one of agent, gateway/,
    );
    assert.match(message, /identities\[1\] \(b\) names\.dns/);
    assert.match(message, /identities\[1\] \(b\) labels\.n/);
    assert.match(message, /line 2: identities\[0\]/);
    assert.match(message, /line 3: identities\[1\] \(b\) labels\.n/);
    const nested = faults(
      "# Fleet\nidentities:\n  - id: a\n    profile: agent\n    names:\n      dns: []\n      dsn: []\n",
    );
    assert.match(nested, /line 7: identities\[0\] \(a\) names: "dsn" is not a known key; did you mean "dns"\?/);
    assert.match(
      faults("identities:\n  - id: a\n    ownr: Kim\n    profile: agent\n"),
      /line 3: .*did you mean "owner"/,
    );
    assert.match(faults("identity: []"), /line 1: "identity" is not a known key; did you mean "identities"\?/);
  });

  test("an id that YAML reads as a number, a list at the top and a file of nothing are refused", () => {
    assert.match(faults("identities: [{id: 007, profile: agent}]"), /identities\[0\] id/);
    for (const text of ["[]", "", "# nothing\n", "identities"])
      assert.match(faults(text), /holds no inventory: .*`identities:`/);
  });

  test("aliases cannot blow it up", () => {
    const layers = Array.from(
      { length: 12 },
      (_, index) => `l${index + 1}: &l${index + 1} [${`*l${index},`.repeat(10)}]`,
    );
    assert.throws(() => parseInventory(`l0: &l0 [a]\n${layers.join("\n")}\n`, "f"));
  });

  test("what is written is read back", () => {
    const text = fc.string({ maxLength: 20 });
    const list = fc.array(text, { maxLength: 3 });
    const entry = fc.record(
      {
        owner: text,
        notes: text,
        id: text,
        profile: fc.constantFrom("agent", "gateway", "operator"),
        names: fc.record({ dns: list, ip: list, uri: list, email: list }, { noNullPrototype: true }),
        keys: list,
        labels: fc.dictionary(
          text.filter((key) => key !== "__proto__"),
          text,
          { maxKeys: 3, noNullPrototype: true },
        ),
      },
      { requiredKeys: ["id", "profile", "names", "keys", "labels"], noNullPrototype: true },
    );
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 4 }), (entries) => {
        assert.deepEqual(parseInventory(writeInventory(entries), "f"), structuredClone(entries));
      }),
      { numRuns: 300 },
    );
  });
});
