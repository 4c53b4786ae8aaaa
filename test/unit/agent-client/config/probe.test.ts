/** `http` and `canary` of a probe, as people write them and as they get them wrong. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ConfigError, parseConfig } from "../../../../agent-client/config/config.ts";
import type { ProbeConfig } from "../../../../agent-client/config/probe.ts";

const read = (probe: string, top = ""): { probe: ProbeConfig | undefined; problems: readonly string[] } => {
  const text = `
server: https://a
enrollment: https://b
${top}
certificates:
  - { name: a, directory: /a, reload: watch, probe: ${probe} }
`;
  try {
    return { probe: parseConfig(text, "agent.yml").certificates[0]?.probes[0], problems: [] };
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return { probe: undefined, problems: error.problems };
  }
};
const at = "connect: '127.0.0.1:443', serverName: g.test";
const files = "{ certificate: /c.crt, key: /c.key }";

test("a probe without http and canary has neither", () => {
  const { probe } = read(`{ ${at} }`);
  assert.deepEqual(probe, { connect: "127.0.0.1:443", serverName: "g.test", timeoutMs: 15_000 });
});

test("http: a path, the statuses that are health, and a host", () => {
  assert.deepEqual(read(`{ ${at}, http: { path: /healthz } }`).probe?.http, {
    path: "/healthz",
    host: null,
    status: [200],
  });
  assert.deepEqual(
    read(`{ ${at}, http: { path: "/ready?x=1", status: [200, 204], host: "api.test:8443" } }`).probe?.http,
    { path: "/ready?x=1", host: "api.test:8443", status: [200, 204] },
  );
  assert.equal(read(`{ ${at}, http: none }`).probe?.http, undefined);
});

test("canary: the agent's own leaf, files, and the statuses by which the good one has passed", () => {
  const both = read(`{ ${at}, http: { path: /, status: 204 }, canary: { good: own, revoked: ${files} } }`);
  const paths = { certificate: "/c.crt", key: "/c.key" };
  assert.deepEqual(both.probe?.canary, { good: "own", revoked: paths, accept: [204] });
  const one = read(`{ ${at}, http: { path: / }, canary: { good: ${files}, accept: [200, 302] } }`);
  assert.deepEqual(one.probe?.canary, { good: paths, revoked: null, accept: [200, 302] });
  assert.deepEqual(read(`{ ${at}, http: none, canary: { revoked: ${files} } }`).probe?.canary?.accept, [200]);
  assert.ok(read(`{ ${at}, startTls: postgres, canary: { good: own } }`).probe?.canary);
});

for (const [what, probe, says] of [
  ["a status that is none", `{ ${at}, http: { path: /, status: ok } }`, /http\.status must be an HTTP status/],
  ["a status out of range", `{ ${at}, http: { path: /, status: [200, 99] } }`, /http\.status must be/],
  ["no path", `{ ${at}, http: { status: 200 } }`, /http\.path is missing/],
  ["a path with a line end", `{ ${at}, http: { path: "/a\\r\\nHost: x" } }`, /http\.path must begin with \//],
  ["a relative path", `{ ${at}, http: { path: healthz } }`, /http\.path must begin with \//],
  ["a host with a space", `{ ${at}, http: { path: /, host: "a b" } }`, /http\.host must be a host name/],
  ["http over STARTTLS", `{ ${at}, startTls: smtp, http: { path: / } }`, /http and startTls exclude each other/],
  [
    "an unknown key",
    `{ ${at}, http: { pth: /, path: / } }`,
    /unknown key "certificates\[0\]\.probe\.http\.pth"; did you mean "path"/,
  ],
  [
    "a canary without http",
    `{ ${at}, canary: { good: own } }`,
    /canary needs http: \{ path: … \} beside it, or http: none/,
  ],
  ["a canary without a client", `{ ${at}, http: none, canary: {} }`, /canary must name a client/],
  ["accept without http", `{ ${at}, http: none, canary: { good: own, accept: 200 } }`, /canary\.accept needs http/],
  ["an own revoked canary", `{ ${at}, http: none, canary: { revoked: own } }`, /canary\.revoked must be a mapping/],
  [
    "a canary without a key",
    `{ ${at}, http: none, canary: { revoked: { certificate: /c } } }`,
    /revoked\.key is missing/,
  ],
  [
    "a relative file",
    `{ ${at}, http: none, canary: { good: { certificate: c, key: /k } } }`,
    /must be an absolute path/,
  ],
] as const) {
  test(`a probe with ${what} is refused`, () => {
    const { problems } = read(probe);
    assert.match(problems.join("\n"), says);
  });
}

test("textfile is an absolute path that node_exporter reads, or null", () => {
  const config = (line: string) =>
    parseConfig(
      `server: https://a
enrollment: https://b
${line}
certificates:
  - { name: a, directory: /a, reload: watch, probe: none }
`,
      "agent.yml",
    );
  assert.equal(config("textfile: /var/lib/x/newleaf.prom").textfile, "/var/lib/x/newleaf.prom");
  assert.equal(config("textfile: null").textfile, null);
  assert.equal(config("").textfile, null);
  assert.throws(() => config("textfile: newleaf.prom"), /absolute path/);
  assert.throws(() => config("textfile: /var/lib/x/newleaf.txt"), /must end in \.prom/);
});
