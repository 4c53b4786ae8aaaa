import assert from "node:assert/strict";
import { test } from "node:test";
import { ConfigError, parseConfig } from "../../../../agent-client/config/config.ts";

const all = "[combined.pem, ca.pem, crl.pem]";

/** agent.yml with one certificate that HAProxy's socket is told of. */
function parse(haproxy: string, files: string | null = all, directory = "/etc/newleaf/gateway") {
  const named = files === null ? "" : `files: ${files},`;
  return parseConfig(
    `
server: https://a
enrollment: https://b
roots: /r.pem
certificates:
  - { name: a, directory: ${directory}, ${named} reload: { haproxy: ${haproxy} }, probe: none }
`,
    "agent.yml",
  ).certificates[0]?.reload;
}

function problemsOf(...how: Parameters<typeof parse>): string {
  try {
    parse(...how);
    return "";
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.problems.join("\n");
  }
}

test("haproxy with a socket and each way to reload is read whole", () => {
  const socket = "/run/haproxy/admin.sock";
  assert.deepEqual(parse(`{ socket: ${socket}, reload: { systemd: haproxy.service } }`), {
    kind: "haproxy",
    socket,
    reload: { kind: "systemd", unit: "haproxy.service", timeoutMs: 30_000 },
    certificate: null,
    caFile: null,
    crlFile: null,
  });
  assert.deepEqual(
    parse(`{ socket: ${socket}, reload: { master: /run/haproxy/master.sock }, certificate: /c/x.pem }`),
    {
      kind: "haproxy",
      socket,
      reload: { kind: "master", socket: "/run/haproxy/master.sock", timeoutMs: 30_000 },
      certificate: "/c/x.pem",
      caFile: null,
      crlFile: null,
    },
  );
  const bySignal = parse(
    `{ socket: ${socket}, reload: { signal: USR2, pidFile: /run/haproxy.pid }, caFile: /c/ca.pem, crlFile: /c/crl.pem }`,
  );
  assert.deepEqual(bySignal, {
    kind: "haproxy",
    socket,
    reload: { kind: "signal", signal: "USR2", pidFile: "/run/haproxy.pid", process: "haproxy" },
    certificate: null,
    caFile: "/c/ca.pem",
    crlFile: "/c/crl.pem",
  });
});

test("without a way to reload haproxy's master is found through the socket", () => {
  const strategy = parse("{ socket: /s }");
  assert.ok(strategy?.kind === "haproxy");
  assert.deepEqual(strategy.reload, { kind: "parent", socket: "/s", timeoutMs: 30_000 });
});

test("haproxy needs no reload where neither CA file nor CRL is kept", () => {
  const strategy = parse("{ socket: /s, reload: none }", "[combined.pem]");
  assert.ok(strategy?.kind === "haproxy");
  assert.equal(strategy.reload, null);
  assert.equal(problemsOf("{ socket: /s, certificate: /c/x.pem }", "[key.pem, fullchain.pem]"), "");
});

const inner = "reload: { systemd: haproxy }";
for (const [name, how, expected] of [
  ["no socket", [`{ ${inner} }`], /reload\.haproxy\.socket is missing/],
  ["a socket that is an address", [`{ socket: "127.0.0.1:9999", ${inner} }`], /socket must be an absolute path/],
  [
    "no reload beside a CRL",
    ["{ socket: /s, reload: none }"],
    /reload is none: with ca\.pem or crl\.pem .* could resume/,
  ],
  ["no reload beside the usual files", ["{ socket: /s, certificate: /c/x.pem, reload: none }", null], /reload is none/],
  ["two reloads", ["{ socket: /s, reload: { systemd: x, master: /m } }"], /exactly one of systemd, signal, master/],
  ["a pid file beside systemd", ["{ socket: /s, reload: { systemd: x, pidFile: /p } }"], /pidFile belongs to signal/],
  ["a signal without pid file", ["{ socket: /s, reload: { signal: USR2 } }"], /reload\.pidFile is missing/],
  ["a typo", [`{ socket: /s, ${inner}, crtFile: /x }`], /unknown key .*crtFile"; did you mean "crlFile"/],
  ["a second command in a name", [`{ socket: /s, ${inner}, caFile: "/a;show" }`], /caFile has characters/],
  ["a line in a name", [`{ socket: /s, ${inner}, crlFile: "/a\\nabort" }`], /crlFile has characters/],
  ["a space in a name", [`{ socket: /s, ${inner}, certificate: "/a b" }`], /certificate has characters/],
  ["a relative name", [`{ socket: /s, ${inner}, certificate: a.pem }`], /certificate must be an absolute path/],
  [
    "a space in the directory",
    [`{ socket: /s, ${inner} }`, all, "/etc/a b"],
    /certificate is missing, and .* characters/,
  ],
  ["no combined.pem", [`{ socket: /s, ${inner} }`, "[key.pem, fullchain.pem]"], /add combined\.pem to files/],
  [
    "a CRL that is not kept",
    [`{ socket: /s, ${inner}, crlFile: /c }`, "[combined.pem]"],
    /crlFile is kept from crl\.pem/,
  ],
] as const) {
  test(`haproxy with ${name} is a problem`, () => {
    assert.match(problemsOf(...(how as unknown as Parameters<typeof parse>)), expected);
  });
}
