import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { describe, it } from "node:test";
import { parse } from "yaml";
import type { PemFile } from "../../../../agent-client/install/material.ts";
import { renderFiles } from "../../../../agent-client/install/render.ts";
import { InstallError } from "../../../../agent-client/install/target.ts";
import {
  factsFor,
  maxTemplateBytes,
  parseTemplate,
  renderTemplate,
} from "../../../../agent-client/install/template.ts";
import { makeMaterial } from "../../../support/material.ts";
import { needs } from "../../../support/programs.ts";
import { temporaryDirectory } from "../../../support/temporary-directory.ts";
import { makeTestCa } from "../../../support/test-ca.ts";

describe("templates", { skip: needs("openssl") }, () => {
  const material = makeMaterial(makeTestCa(temporaryDirectory("template")));
  const pem = (file: PemFile): string => renderFiles(material, [file]).get(file)?.toString("utf8") ?? "";
  const leaf = new X509Certificate(material.leaf);
  const facts = factsFor(leaf, {
    fingerprint: `sha256:${"ab".repeat(32)}`,
    identity: "gateway-1",
    directory: '/etc/new leaf/"a"/current',
  });
  const render = (text: string, show = pem): string =>
    renderTemplate(parseTemplate(Buffer.from(text), "/t.tmpl"), { ...facts, pem: show }).toString("utf8");

  it("indents PEM in YAML block scalars as its placeholder is, byte for byte what the file holds", () => {
    const text = render(
      "tls:\n  - key: |\n      {{ key.pem }}\n    certificate: |\n        {{fullchain.pem}}   \n  - ca: |-\n      {{ ca.pem }}\nafter: 1\n",
    );
    const tree = parse(text) as { tls: [{ key: string; certificate: string }, { ca: string }]; after: number };
    assert.equal(tree.tls[0].key, pem("key.pem"));
    assert.equal(tree.tls[0].certificate, pem("fullchain.pem"));
    assert.equal(tree.tls[1].ca, pem("ca.pem").trimEnd());
    assert.equal(tree.after, 1);
    assert.doesNotMatch(text, /[ \t]$/m, "no stray space");
    assert.doesNotMatch(text, /\n\n/, "no blank line");
  });

  it("escapes for JSON, YAML and double-quoted text", () => {
    const line = '{"key":"{{ key.pem | json }}","dir":"{{ directory | json }}"}';
    assert.deepEqual(JSON.parse(render(line)), { key: pem("key.pem"), dir: '/etc/new leaf/"a"/current' });
    assert.deepEqual(parse(render(`crl: "{{crl.pem|json}}"\nend: true\n`)), { crl: pem("crl.pem"), end: true });
  });

  it("gives TOML what it can read", { skip: needs("python3") }, () => {
    const text = render(
      '[gateway.tls]\ncert = "{{ fullchain.pem | json }}"\nkey = """\n{{ key.pem }}\n"""\ndir = "{{ directory | json }}"\n',
    );
    const program = "import sys,tomllib,json; json.dump(tomllib.loads(sys.stdin.read()), sys.stdout)";
    const tree = JSON.parse(execFileSync("python3", ["-c", program], { input: text, encoding: "utf8" })) as unknown;
    const tls = { cert: pem("fullchain.pem"), key: pem("key.pem"), dir: '/etc/new leaf/"a"/current' };
    assert.deepEqual(tree, { gateway: { tls } });
  });

  it("shows base64 of the PEM, base64 of the DER, and what the certificate says", () => {
    const text = render("{{ ca.pem | base64 }}\n{{ cert.pem | der64 }} {{ key.pem | der64 }}\n");
    const [ca = "", both = ""] = text.split("\n");
    assert.equal(Buffer.from(ca, "base64").toString(), pem("ca.pem"));
    const [certificate = "", key = ""] = both.split(" ");
    assert.ok(Buffer.from(certificate, "base64").equals(material.leaf));
    assert.ok(Buffer.from(key, "base64").equals(material.key.export({ type: "pkcs8", format: "der" })));
    const said = render("{{ fingerprint }}|{{ serial }}|{{ notAfter }}|{{ identity }}|{{ directory }}");
    const { fingerprint, serial, notAfter, identity, directory } = facts;
    assert.equal(said, [fingerprint, serial, notAfter, identity, directory].join("|"));
    assert.match(`${serial} ${notAfter}`, /^[0-9a-f]+ \d{4}-\d\d-\d\dT[\d:.]+Z$/);
  });

  it("leaves everything else as it is: line ends, a missing last newline, braces, and no line for an empty value", () => {
    const crlf = render("a\r\n  {{ cert.pem }}\r\nb");
    assert.equal(
      crlf,
      `a\r\n${pem("cert.pem")
        .replaceAll(/^(?=.)/gm, "  ")
        .replaceAll("\n", "\r\n")}b`,
    );
    assert.equal(render("{{ cert.pem }}"), pem("cert.pem").trimEnd());
    assert.equal(render('x = {{ "{{" }} .Value }}\n{ "a": {} }\n'), 'x = {{ .Value }}\n{ "a": {} }\n');
    assert.equal(
      render("chain: |\n  {{ chain.pem }}\nb: 1\n", () => ""),
      "chain: |\nb: 1\n",
    );
    assert.equal(render(""), "");
  });

  it("says which files it shows", () => {
    const { uses } = parseTemplate(Buffer.from("{{ crl.pem }}\n{{ key.pem | json }}{{ serial }}"), "/t");
    assert.deepEqual([...uses], ["crl.pem", "key.pem"]);
  });

  const wrong: readonly (readonly [string, string, RegExp])[] = [
    [
      "a placeholder that does not exist",
      "a\n{{ kex.pem }}\n",
      /line 2 of the template \/t\.tmpl: unknown .*mean "key\.pem"/,
    ],
    ["one that is like no other", "{{ something }}", /unknown placeholder "something"; there are key\.pem/],
    ["a filter that does not exist", "{{ key.pem | jsn }}", /unknown filter "jsn"; did you mean "json"/],
    ["two filters", "{{ key.pem | json | base64 }}", /one filter is enough/],
    ["PEM within a line", 'key: "{{ key.pem }}"', /has many lines: write \{\{ key\.pem \| json \}\}/],
    ["DER of what holds several", "{{ ca.pem | der64 }}", /der64 is for key\.pem.*\{\{ ca\.pem \| base64 \}\}/],
    ["a placeholder without an end", "a {{ key.pem\n}}", /does not end on its line/],
    ["a passphrase store", "{{ keystore.p12 }}", /unknown placeholder/],
  ];
  for (const [what, text, message] of wrong) {
    it(`refuses ${what}`, () => {
      assert.throws(
        () => render(text),
        (error) => error instanceof InstallError && message.test(error.message),
      );
    });
  }

  it("refuses what is not UTF-8, or too large", () => {
    assert.throws(() => parseTemplate(Buffer.of(0x61, 0xff), "/t"), /not UTF-8/);
    assert.throws(() => parseTemplate(Buffer.alloc(maxTemplateBytes + 1, "a"), "/t"), /larger than/);
    assert.throws(() => parseTemplate(Buffer.from("{{ serial }}\n".repeat(1001)), "/t"), /more than 1000/);
  });
});
