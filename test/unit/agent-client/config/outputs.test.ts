/** What agent.yml says of files, links, copies, templates and stores. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ConfigError, parseConfig } from "../../../../agent-client/config/config.ts";
import type { Target } from "../../../../agent-client/install/target.ts";

const text = (settings: string): string =>
  `server: https://a\nenrollment: https://b\ncertificates:\n  - { name: gw, directory: /etc/tls/gw, reload: watch, probe: none, ${settings} }\n`;

function targetOf(settings: string): Target {
  const [certificate] = parseConfig(text(settings), "agent.yml").certificates;
  assert.ok(certificate);
  return certificate.target;
}

test("everything at once", () => {
  const target = targetOf(
    "files: [tls.crt, tls.key, ca.crt, keystore.p12], passphraseFile: /run/credentials/newleaf-agent.service/store, maxFileBytes: 65536, " +
      "template: [{ from: /etc/newleaf/gw.toml, to: gw.toml }, { from: /etc/newleaf/env, to: /srv/app/.env }], " +
      "copies: { /srv/app//server.key: tls.key, /srv/app/gw.toml: gw.toml }, links: { /srv/x/store.p12: keystore.p12 }",
  );
  assert.deepEqual(target.files, ["tls.crt", "tls.key", "ca.crt", "keystore.p12", "gw.toml", "env"]);
  assert.deepEqual(target.links, { "/srv/x/store.p12": "keystore.p12", "/srv/app/.env": "env" });
  assert.deepEqual(target.copies, { "/srv/app/server.key": "tls.key", "/srv/app/gw.toml": "gw.toml" });
  assert.deepEqual(target.templates, [
    { from: "/etc/newleaf/gw.toml", name: "gw.toml" },
    { from: "/etc/newleaf/env", name: "env" },
  ]);
  assert.deepEqual(target.stores, { passphraseFile: "/run/credentials/newleaf-agent.service/store", alias: "gw" });
  assert.equal(target.maxFileBytes, 65_536);
});

test("one template needs no list, no other file, and may take the place of one of ours", () => {
  const target = targetOf("files: [], template: { from: /t, to: /srv/app/key.pem }");
  assert.deepEqual(target.files, ["rendered-key.pem"]);
  assert.deepEqual(target.links, { "/srv/app/key.pem": "rendered-key.pem" });
});

test("without any of it there is nothing of it", () => {
  const { copies, templates, stores, maxFileBytes, files } = targetOf("mode: 0600");
  assert.deepEqual([copies, templates, stores, maxFileBytes], [undefined, undefined, undefined, undefined]);
  assert.ok(!files.includes("tls.key") && !files.includes("keystore.p12"));
});

for (const [name, settings, expected] of [
  ["a store without a passphrase", "files: [keystore.p12]", /passphraseFile is missing: keystore\.p12 is protected/],
  ["a passphrase without a store", "passphraseFile: /p", /passphraseFile is of no use without keystore\.p12 or/],
  ["a passphrase in the file", "files: [truststore.p12], passphraseFile: changeit", /must be an absolute path/],
  ["a template without a place", "template: { from: /t }", /template\.to is missing/],
  ["a template without a source", "template: { to: x }", /template\.from is missing/],
  ["a template key misspelled", "template: { from: /t, too: x }", /did you mean "certificates\[0\]|did you mean "to"/],
  [
    "a template that leaves its directory",
    "template: { from: /t, to: ../x }",
    /template\.to must be an absolute path, or a file name/,
  ],
  [
    "a template over one of our files",
    "template: { from: /t, to: key.pem }",
    /template\.to must be an absolute path, or/,
  ],
  [
    "two templates for one file",
    "template: [{ from: /t, to: x }, { from: /u, to: x }]",
    /template\[1\]\.to is used twice/,
  ],
  [
    "a copy of a file that is not made",
    "files: [key.pem], copies: { /x: ca.pem }",
    /copies point "\/x" at "ca\.pem", which is not in/,
  ],
  ["a copy at a relative path", "copies: { x: key.pem }", /copies name "x", which is not an absolute path/],
  ["a copy inside the directory", "copies: { /etc/tls/gw/key.pem: key.pem }", /copies name .* inside directory/],
  ["a path that is link and copy", "links: { /x: key.pem }, copies: { /x: key.pem }", /which is a link already/],
  ["copies that are a list", "copies: [/x]", /copies must map paths to files/],
  ["a limit that nothing fits in", "maxFileBytes: 64", /maxFileBytes must be a number of bytes, 256 at least/],
  ["a limit that is no number", "maxFileBytes: 64k", /maxFileBytes must be a number/],
] as const) {
  test(`the configuration refuses ${name}`, () => {
    assert.throws(
      () => parseConfig(text(settings), "agent.yml"),
      (error) => error instanceof ConfigError && expected.test(error.message),
    );
  });
}

test("the configuration refuses one path for a copy and a link of two certificates", () => {
  const second = "  - { name: b, directory: /b, reload: watch, probe: none, links: { /x: key.pem } }\n";
  assert.throws(() => parseConfig(text("copies: { /x: key.pem }") + second, "agent.yml"), /use the path "\/x" twice/);
});
