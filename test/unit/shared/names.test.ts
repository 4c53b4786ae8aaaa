import assert from "node:assert/strict";
import { test } from "node:test";
import { DerError, tlv } from "@newleaf/shared/der";
import {
  allNames,
  generalNames,
  ipFromBytes,
  ipToBytes,
  isIdentityId,
  noNames,
  normaliseNames,
  parseDnsName,
  parseEmail,
  parseIpAddress,
  parseUri,
  readGeneralNames,
} from "@newleaf/shared/names";
import { isAppError } from "../../support/errors.ts";

type Parser = (text: string) => string;

function accepts(parse: Parser, cases: Readonly<Record<string, string>>): void {
  for (const [text, canonical] of Object.entries(cases)) {
    assert.equal(parse(text), canonical, text);
    assert.equal(parse(canonical), canonical, `${canonical} is its own canonical form`);
  }
}

function refuses(parse: Parser, cases: readonly string[]): void {
  for (const text of cases)
    assert.throws(
      () => parse(text),
      (error) => isAppError(error, "request-invalid"),
      JSON.stringify(text),
    );
}

test("a DNS name becomes lower case; a wildcard stands leftmost", () => {
  accepts(parseDnsName, {
    "Gateway.Claw.Internal": "gateway.claw.internal",
    localhost: "localhost",
    "*.claw.internal": "*.claw.internal",
    "xn--mnchen-3ya.de": "xn--mnchen-3ya.de",
    "1.a": "1.a",
    "3com.com": "3com.com",
    [`${"a".repeat(63)}.b`]: `${"a".repeat(63)}.b`,
  });
});

test("what is no DNS name is refused with request-invalid", () => {
  refuses(parseDnsName, [
    "",
    ".",
    "a.",
    ".a",
    "a..b",
    "-a.b",
    "a-.b",
    "a_b.c",
    "a b",
    "a\0b",
    "münchen.de",
    "*",
    "*.",
    "a.*.b",
    "*a.b",
    "**.b",
    "10.0.1.42",
    "1.2.3",
    "a.0x1",
    "a.123",
    "::1",
    "a:80",
    "a/b",
    "a@b",
    `${"a".repeat(64)}.b`,
    `${"a.".repeat(127)}b`,
    "a\n",
  ]);
});

test("the refusal of a name in Unicode gives its A-label", () => {
  assert.throws(() => parseDnsName("München.de"), /xn--mnchen-3ya\.de/);
});

test("addresses have one spelling (RFC 5952)", () => {
  accepts(parseIpAddress, {
    "10.0.1.42": "10.0.1.42",
    "2001:DB8:0:0:1:0:0:1": "2001:db8::1:0:0:1",
    "::": "::",
    "::1": "::1",
    "1::": "1::",
    "2001:0db8::0001": "2001:db8::1",
    "1:0:2:3:4:5:6:7": "1:0:2:3:4:5:6:7",
    "64:ff9b::192.0.2.33": "64:ff9b::c000:221",
    "0:0:1:0:0:0:1:0": "0:0:1::1:0",
  });
});

test("what is no address is refused with request-invalid", () => {
  refuses(parseIpAddress, [
    "",
    "10.0.1",
    "10.0.1.256",
    "010.0.0.1",
    "10.0.1.42/24",
    "10.0.1.42:443",
    "fe80::1%eth0",
    "[::1]",
    "1:2:3:4:5:6:7:8:9",
    ":::",
    "::ffff:10.0.1.42",
    "::ffff:a00:12a",
    "localhost",
    "1::2::3",
  ]);
});

test("octets of an address go both ways, and other lengths are none", () => {
  assert.equal(ipFromBytes(ipToBytes("2001:db8::ff00:42:8329") ?? Buffer.alloc(0)), "2001:db8::ff00:42:8329");
  assert.equal(ipToBytes("0.0.0.0")?.toString("hex"), "00000000");
  assert.equal(ipFromBytes(Buffer.alloc(5)), null);
});

test("a URI is absolute, its scheme and host in lower case", () => {
  accepts(parseUri, {
    "SPIFFE://Claw.Internal/Gateway-1": "spiffe://claw.internal/Gateway-1",
    "urn:uuid:F81D": "urn:uuid:F81D",
    "https://[2001:DB8::0]:8443/%7Ea?b=C#d": "https://[2001:db8::]:8443/%7Ea?b=C#d",
    "https://User@HOST.a": "https://User@host.a",
    "http://10.0.1.42/": "http://10.0.1.42/",
  });
});

test("what is no absolute URI in ASCII is refused with request-invalid", () => {
  refuses(parseUri, [
    "",
    "gateway",
    "/a",
    "//a/b",
    "spiffe:",
    "spiffe://",
    "spiffe:///a",
    "http://a b/",
    "http://a/%zz",
    "http://a/\0",
    "http://ü.de/",
    'http://a/"',
    "http://a_b/",
    "http://010.1.1.1/",
    "http://[::1/",
    "http://a:port/",
    "1http://a/",
    `http://a/${"b".repeat(2048)}`,
  ]);
});

test("an e-mail address keeps its local part and lower-cases its domain", () => {
  accepts(parseEmail, { "Ops.Team+x@Claw.Internal": "Ops.Team+x@claw.internal" });
  refuses(parseEmail, [
    "",
    "@",
    "a",
    "a@",
    "@b",
    "a@b@",
    "a b@c.d",
    "ü@b.c",
    "a@*.b",
    "a@10.0.0.1",
    ".a@b",
    "a..b@c",
    "Ops <a@b.c>",
    `${"a".repeat(65)}@b.c`,
  ]);
});

test("an identity's id is what the contract says", () => {
  for (const id of ["a", "gateway-1", "admin@operators", "a.b_c", "A".repeat(64)]) assert.ok(isIdentityId(id), id);
  for (const id of ["", "-a", ".a", "a b", "a/b", "ü", "A".repeat(65), "a\n"])
    assert.ok(!isIdentityId(id), JSON.stringify(id));
});

test("names are made canonical, duplicates dropped, order kept", () => {
  const names = normaliseNames({
    dns: ["b.x", "A.x", "B.X"],
    ip: ["::0001", "::1"],
    uri: ["URN:a", "urn:a"],
    email: ["a@B.c", "a@b.C"],
  });
  assert.deepEqual(names, { dns: ["b.x", "a.x"], ip: ["::1"], uri: ["urn:a"], email: ["a@b.c"] });
  assert.deepEqual(allNames(names), ["b.x", "a.x", "::1", "urn:a", "a@b.c"]);
  assert.throws(
    () => normaliseNames({ ...noNames, dns: Array.from({ length: 251 }, (_, at) => `h${at}.x`) }),
    (error) => isAppError(error, "request-invalid"),
  );
});

test("GeneralNames go both ways", () => {
  const names = { dns: ["*.a.b", "a.b"], ip: ["10.0.1.42", "2001:db8::1"], uri: ["spiffe://a/b"], email: ["a@b.c"] };
  assert.deepEqual(readGeneralNames(generalNames(names)), names);
  assert.throws(() => generalNames(noNames), DerError);
  assert.throws(() => generalNames({ ...noNames, dns: ["ü"] }), DerError);
  assert.throws(() => generalNames({ ...noNames, ip: ["x"] }), DerError);
});

test("GeneralNames that are empty, followed by something or of other kinds are refused", () => {
  assert.throws(() => readGeneralNames(tlv(0x30)), DerError);
  assert.throws(
    () => readGeneralNames(Buffer.concat([generalNames({ ...noNames, dns: ["a.b"] }), Buffer.from([5, 0])])),
    DerError,
  );
  for (const tag of [0xa0, 0xa3, 0xa4, 0xa5, 0x88, 0x89, 0x0c]) {
    assert.throws(
      () => readGeneralNames(tlv(0x30, tlv(tag, Buffer.from("ab")))),
      (error) => isAppError(error, "request-invalid"),
      `tag ${tag}`,
    );
  }
});
