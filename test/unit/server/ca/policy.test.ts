import assert from "node:assert/strict";
import { test } from "node:test";
import { noNames, type Names } from "@newleaf/shared/names";
import { checkKey, checkNames } from "../../../../server/ca/policy.ts";
import { defaultProfiles } from "../../../../server/ca/profile.ts";
import { isAppError } from "../../../support/errors.ts";

const held: Names = {
  dns: ["gateway.claw.internal", "gw.claw.internal"],
  ip: ["10.0.1.42", "2001:db8::1"],
  uri: ["spiffe://claw/g"],
  email: ["ops@claw.internal"],
};
const identity = { id: "gateway-1", names: held };

function ask(commonName: string | null, names: Partial<Names>, presented?: Names): readonly string[] {
  return checkNames({
    csr: { commonName, names: { ...noNames, ...names } },
    identity,
    ...(presented === undefined ? {} : { presented }),
  }).dropped;
}

function refused(commonName: string | null, names: Partial<Names>, presented?: Names): string {
  let message = "";
  assert.throws(
    () => ask(commonName, names, presented),
    (error) => {
      message = error instanceof Error ? error.message : "";
      return isAppError(error, "names-not-permitted");
    },
  );
  return message;
}

test("asking for nothing, a part or the whole entry is allowed", () => {
  for (const names of [{}, { dns: ["gw.claw.internal"] }, held]) assert.deepEqual(ask(null, names), []);
});

test("the CN may be the id or one of the names, however it is spelled", () => {
  for (const name of [
    "gateway-1",
    "gateway.claw.internal",
    "Gateway.Claw.Internal",
    "10.0.1.42",
    "2001:DB8:0::1",
    "spiffe://claw/g",
    "ops@claw.internal",
  ])
    assert.deepEqual(ask(name, {}), [], name);
});

test("any other name is refused with names-not-permitted", () => {
  for (const name of [
    "gateway-2",
    "Gateway-1",
    "other.claw.internal",
    "claw.internal",
    "gateway.claw.internal ",
    "10.0.1.43",
  ])
    assert.match(refused(name, {}), /gateway-1 does not hold/);
  for (const names of [
    { dns: ["other.claw.internal"] },
    { dns: ["*.claw.internal"] },
    { ip: ["10.0.1.43"] },
    { uri: ["spiffe://claw/h"] },
    { email: ["x@claw.internal"] },
  ])
    refused(null, names);
});

test("a name of one kind is not permission for it in another", () => {
  refused(null, { uri: ["gateway.claw.internal"] });
  refused(null, { dns: ["gateway-1"] });
});

test("a refusal lists five names and counts the rest", () => {
  const message = refused(null, { dns: Array.from({ length: 8 }, (_, at) => `h${at}.x`) });
  assert.match(message, /"h4\.x" and 3 more/);
  assert.doesNotMatch(message, /h5\.x/);
});

test("in a renewal, a name that the presented leaf holds and the inventory dropped is left out", () => {
  const presented = { ...held, dns: [...held.dns, "old.claw.internal"] };
  assert.deepEqual(ask("gateway-1", { dns: ["gw.claw.internal", "old.claw.internal"] }, presented), [
    "old.claw.internal",
  ]);
  assert.deepEqual(ask("old.claw.internal", { dns: ["old.claw.internal"] }, presented), ["old.claw.internal"]);
  assert.match(
    refused(null, { dns: ["old.claw.internal", "new.claw.internal"] }, presented),
    /asks for "new\.claw\.internal", which/,
  );
});

test("a key that the profile does not list is refused with key-not-acceptable", () => {
  checkKey({ algorithm: "ed25519" }, defaultProfiles.agent);
  assert.throws(
    () => checkKey({ algorithm: "ed25519" }, { name: "agent", keys: ["ecdsa-p256"] }),
    (error) => isAppError(error, "key-not-acceptable"),
  );
});
