/** `reload: { caddy: … }` and `reload: { redis: … }` in agent.yml. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ConfigError, parseConfig } from "../../../agent-client/config/config.ts";

function parse(reload: string) {
  const text = `{ name: a, directory: /a, reload: ${reload}, probe: none }`;
  return parseConfig(
    `server: https://a\nenrollment: https://b\nroots: /r.pem\ncertificates:\n  - ${text}\n`,
    "agent.yml",
  ).certificates[0]?.reload;
}

function problemsOf(reload: string): readonly string[] {
  try {
    parse(reload);
    return [];
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.problems;
  }
}

const timeoutMs = 30_000;

test("caddy is read with its admin API at a port, at a Unix socket, and with a configuration file", () => {
  const caddy = { kind: "caddy", config: null, timeoutMs } as const;
  for (const admin of ["127.0.0.1:2019", "localhost:2019", "'[::1]:2019'", "/run/caddy.sock", "unix//run/caddy.sock"]) {
    const read = admin.replaceAll("'", "");
    assert.deepEqual(parse(`{ caddy: { admin: ${admin} } }`), { ...caddy, admin: read });
  }
  const config = "/etc/caddy/Caddyfile";
  assert.deepEqual(parse(`{ caddy: { admin: /s, config: ${config} } }`), { ...caddy, admin: "/s", config });
});

test("redis is read with its address alone, with a user, and with TLS", () => {
  const redis = { kind: "redis", connect: "/run/redis.sock", user: null, passwordFile: null, tls: null, timeoutMs };
  assert.deepEqual(parse("{ redis: { connect: /run/redis.sock } }"), redis);
  assert.deepEqual(parse("{ redis: { connect: 127.0.0.1:6379, user: u, passwordFile: /p } }"), {
    ...redis,
    connect: "127.0.0.1:6379",
    user: "u",
    passwordFile: "/p",
  });
  assert.deepEqual(
    parse("{ redis: { connect: redis.claw.internal:6379, tls: { serverName: redis.claw.internal } } }"),
    { ...redis, connect: "redis.claw.internal:6379", tls: { serverName: "redis.claw.internal" } },
  );
});

for (const [reload, expected] of [
  ["{ caddy: /run/caddy.sock }", /caddy must be a mapping with the keys admin, config/],
  ["{ caddy: {} }", /caddy\.admin is missing/],
  ["{ caddy: { admin: 10.0.0.1:2019 } }", /caddy\.admin must be on this host/],
  ["{ caddy: { admin: caddy.claw.internal:2019 } }", /caddy\.admin must be on this host/],
  ["{ caddy: { admin: '0.0.0.0:2019' } }", /caddy\.admin must be on this host/],
  ["{ caddy: { admin: caddy.sock } }", /caddy\.admin is wrong: .* write host:port .* or the absolute path/],
  ["{ caddy: { admin: /s, config: Caddyfile } }", /caddy\.config must be an absolute path/],
  ["{ caddy: { admin: /s, force: true } }", /unknown key "certificates\[0\]\.reload\.caddy\.force"/],
  ["{ redis: { socket: /s } }", /redis\.connect is missing/],
  ["{ redis: { connect: 10.0.0.1:6379 } }", /redis\.connect must be on this host .* or `tls` must be there/],
  ["{ redis: { connect: /s, user: u } }", /redis\.passwordFile is missing: user needs one/],
  ["{ redis: { connect: /s, passwordFile: p } }", /redis\.passwordFile must be an absolute path/],
  ["{ redis: { connect: /s, password: x } }", /unknown key .*redis\.password"; did you mean "passwordFile"/],
  ["{ redis: { connect: '127.0.0.1:1', tls: {} } }", /redis\.tls\.serverName is missing/],
  ["{ redis: { connect: /s }, caddy: { admin: /s } }", /must say exactly one of/],
] as const)
  test(`reload ${reload} is a mistake that is named`, () => {
    const problems = problemsOf(reload);
    assert.match(problems.join("\n"), expected);
  });
