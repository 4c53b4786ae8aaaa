import assert from "node:assert/strict";
import { test } from "node:test";
import { ConfigError, parseConfig } from "../../../../agent-client/config/config.ts";

const whole = `
server: https://ca.claw.internal:8443/
enrollment: https://ca.claw.internal:8444
roots: /etc/newleaf/roots.pem
state: /var/lib/newleaf-agent
metrics: 127.0.0.1:9465
certificates:
  - name: gateway
    key: ecdsa-p384
    newKeyEachRenewal: false
    directory: /etc/newleaf/gateway/
    files: [key.pem, fullchain.pem, ca.pem, crl.pem]
    owner: root
    group: 101
    mode: 0640
    links: { /etc/nginx/tls/server.crt: fullchain.pem, /etc/nginx/tls/server.key: key.pem }
    reload: { signal: HUP, pidFile: /run/nginx.pid, process: nginx }
    check: [nginx, -t]
    probe:
      - { connect: "127.0.0.1:9443", serverName: gateway.claw.internal, timeout: 20s }
      - { connect: "[::1]:5432", serverName: db.claw.internal, startTls: postgres }
`;

const small = (certificate: string, top = "roots: /r.pem"): string => `
server: https://a
enrollment: https://b
${top}
certificates:
  - ${certificate}
`;
const enough = "{ name: a, directory: /a, reload: watch, probe: none }";

/** All problems of a text. */
function problemsOf(text: string): readonly string[] {
  try {
    parseConfig(text, "agent.yml");
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    assert.ok(error.message.startsWith("agent.yml: "));
    return error.problems;
  }
  return [];
}

test("a whole configuration is read as it was meant", () => {
  const config = parseConfig(whole, "agent.yml");
  assert.equal(config.server, "https://ca.claw.internal:8443");
  assert.deepEqual(config.metrics, { host: "127.0.0.1", port: 9465 });
  const [certificate] = config.certificates;
  assert.ok(certificate);
  assert.deepEqual(certificate.target, {
    directory: "/etc/newleaf/gateway",
    files: ["key.pem", "fullchain.pem", "ca.pem", "crl.pem"],
    owner: "root",
    group: 101,
    mode: 0o640,
    links: { "/etc/nginx/tls/server.crt": "fullchain.pem", "/etc/nginx/tls/server.key": "key.pem" },
  });
  assert.deepEqual(certificate.reload, { kind: "signal", signal: "HUP", pidFile: "/run/nginx.pid", process: "nginx" });
  assert.deepEqual(certificate.check, ["nginx", "-t"]);
  assert.deepEqual(certificate.probes, [
    { connect: "127.0.0.1:9443", serverName: "gateway.claw.internal", timeoutMs: 20_000 },
    { connect: "[::1]:5432", serverName: "db.claw.internal", timeoutMs: 15_000, startTls: "postgres" },
  ]);
  assert.equal(certificate.newKeyEachRenewal, false);
  assert.throws(() => Object.assign(config.certificates[0] ?? {}, { name: "x" }), TypeError, "it is frozen");
});

test("what is left out has its default", () => {
  const config = parseConfig(small(enough), "agent.yml");
  assert.deepEqual([config.state, config.metrics, config.rootFingerprint], ["/var/lib/newleaf-agent", null, null]);
  const [certificate] = config.certificates;
  assert.deepEqual([certificate?.key, certificate?.newKeyEachRenewal, certificate?.check], ["ecdsa-p256", true, null]);
  assert.deepEqual([certificate?.target.mode, certificate?.target.owner, certificate?.probes], [0o600, null, []]);
  assert.deepEqual(certificate?.reload, { kind: "watch" });
});

test("an unknown key is an error that names the key and the nearest known one", () => {
  assert.deepEqual(problemsOf(small(enough, "rots: /r.pem")), ['unknown key "rots"; did you mean "roots"?']);
  assert.deepEqual(problemsOf(small("{ name: a, directory: /a, relaod: watch, reload: watch, probe: none }")), [
    'unknown key "certificates[0].relaod"; did you mean "reload"?',
  ]);
  const [nested] = problemsOf(
    small("{ name: a, directory: /a, reload: watch, probe: { conect: 'a:1', connect: 'a:1', serverName: a } }"),
  );
  assert.equal(nested, 'unknown key "certificates[0].probe.conect"; did you mean "connect"?');
  assert.match(
    problemsOf(small("{ name: a, directory: /a, canary: {}, reload: watch, probe: none }"))[0] ?? "",
    /unknown key "certificates\[0\].canary"; known keys: name, /,
  );
});

for (const [name, text, expected] of [
  ["no certificates", "server: https://a\nenrollment: https://b\n", /certificates must be a list/],
  ["plain http", small(enough).replace("https://a", "http://a"), /server must be an https:\/\/ address/],
  ["no server", small(enough).replace("server: https://a", ""), /server is missing/],
  ["a fingerprint that is none", small(enough, "rootFingerprint: sha256:12"), /rootFingerprint must be sha256:/],
  ["roots twice", small(enough, `roots: /r\nrootFingerprint: sha256:${"0".repeat(64)}`), /exclude each other/],
  [
    "a relative directory",
    small("{ name: a, directory: a, reload: watch, probe: none }"),
    /directory must be an absolute path/,
  ],
  [
    "a name that leaves the state directory",
    small("{ name: ../a, directory: /a, reload: watch, probe: none }"),
    /name must be letters/,
  ],
  ["a reload that is a word", small("{ name: a, directory: /a, probe: none, reload: none }"), /"none".* or watch/],
  ["no reload", small("{ name: a, directory: /a, probe: none }"), /reload is missing and has no default/],
  [
    "two reloads",
    small("{ name: a, directory: /a, reload: { systemd: x, touch: /t }, probe: none }"),
    /exactly one of/,
  ],
  [
    "a signal without a process",
    small("{ name: a, directory: /a, reload: { signal: HUP, pidFile: /p }, probe: none }"),
    /reload.process is missing/,
  ],
  [
    "a signal that kills",
    small("{ name: a, directory: /a, reload: { signal: KILL, pidFile: /p, process: x }, probe: none }"),
    /signal is "KILL"/,
  ],
  [
    "a pid file without a signal",
    small("{ name: a, directory: /a, reload: { systemd: x, pidFile: /p }, probe: none }"),
    /pidFile belongs to signal only/,
  ],
  [
    "no probe",
    small("{ name: a, directory: /a, reload: watch }"),
    /probe is missing; say where the certificate is served, or none/,
  ],
  [
    "a probe without a port",
    small("{ name: a, directory: /a, reload: watch, probe: { connect: localhost, serverName: a } }"),
    /connect must be host:port/,
  ],
  [
    "a probe that never ends",
    small("{ name: a, directory: /a, reload: watch, probe: { connect: 'a:1', serverName: a, timeout: 2h } }"),
    /timeout must lie between/,
  ],
  [
    "a timeout that is none",
    small("{ name: a, directory: /a, reload: watch, probe: { connect: 'a:1', serverName: a, timeout: 15 } }"),
    /not a duration/,
  ],
  [
    "a file nobody makes",
    small("{ name: a, directory: /a, files: [key.pm], reload: watch, probe: none }"),
    /names "key.pm"; did you mean "key.pem"/,
  ],
  [
    "a mode for everybody",
    small("{ name: a, directory: /a, mode: 0666, reload: watch, probe: none }"),
    /mode must be an octal/,
  ],
  [
    "a mode that executes",
    small("{ name: a, directory: /a, mode: 755, reload: watch, probe: none }"),
    /mode must be an octal/,
  ],
  [
    "a link to a file that is not made",
    small("{ name: a, directory: /a, files: [key.pem], links: { /x: ca.pem }, reload: watch, probe: none }"),
    /which is not in files/,
  ],
  [
    "an algorithm misspelled",
    small("{ name: a, directory: /a, key: ecdsa-p265, reload: watch, probe: none }"),
    /did you mean ecdsa-p256/,
  ],
  [
    "check as a shell line",
    small('{ name: a, directory: /a, check: "nginx -t", reload: watch, probe: none }'),
    /check must be a list/,
  ],
  [
    "one name twice",
    `${small(enough)}  - { name: a, directory: /b, reload: watch, probe: none }\n`,
    /use the name "a" twice/,
  ],
  [
    "one directory twice",
    `${small(enough)}  - { name: b, directory: /a/, reload: watch, probe: none }\n`,
    /use the directory "\/a" twice/,
  ],
  ["a key twice", "server: https://a\nserver: https://b\n", /is not YAML/],
  ["nothing", "", /the file must be a mapping/],
] as const) {
  test(`the configuration refuses ${name}`, () => {
    assert.match(problemsOf(text).join("\n"), expected);
  });
}

test("all problems are named at once", () => {
  const problems = problemsOf(small("{ name: a, directory: a, mode: 0777, probe: none }", "metrics: nowhere"));
  assert.equal(problems.length, 4, problems.join("\n"));
});

test("a file that is not there is named, with what to do", () => {
  assert.throws(() => parseConfig("[", "x"), ConfigError);
});

test("scalars are what was typed: octal modes in each spelling", () => {
  for (const [typed, mode] of [
    ["0600", 0o600],
    ["600", 0o600],
    ["0o640", 0o640],
    ['"0644"', 0o644],
    ["400", 0o400],
  ] as const) {
    const config = parseConfig(small(`{ name: a, directory: /a, mode: ${typed}, reload: watch, probe: none }`), "x");
    assert.equal(config.certificates[0]?.target.mode, mode, typed);
  }
});

test("start and beforeSwitch are read as they were meant; the wait has no default", () => {
  const certificate = (more: string): string =>
    small(`{ name: a, directory: /a, reload: watch, probe: none, ${more} }`);
  const read = parseConfig(
    certificate("start: [apachectl, start], beforeSwitch: { command: [/bin/publish, --pin], wait: 10m }"),
    "agent.yml",
  ).certificates[0];
  assert.deepEqual(read?.start, ["apachectl", "start"]);
  assert.deepEqual(read.beforeSwitch, { argv: ["/bin/publish", "--pin"], timeoutMs: 60_000, waitMs: 600_000 });
  const plain = parseConfig(small(enough), "agent.yml").certificates[0];
  assert.deepEqual([plain?.start, plain?.beforeSwitch], [null, null]);

  const wrong = (more: string): string => problemsOf(certificate(more)).join("\n");
  assert.match(wrong("beforeSwitch: { command: [x] }"), /beforeSwitch\.wait is missing; say how long/);
  assert.match(wrong("beforeSwitch: { wait: 1m }"), /beforeSwitch\.command is missing; say what tells/);
  assert.match(wrong("beforeSwitch: { command: [x], wait: 8d }"), /wait must be at most 7d/);
  assert.match(wrong("beforeSwitch: { command: [x], wait: soon }"), /"soon" is not a duration/);
  assert.match(wrong("beforeSwitch: { comand: [x], command: [x], wait: 1m }"), /did you mean "command"/);
  assert.match(wrong("start: []"), /start must be a program and its arguments/);
});
