import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import type { TargetRow } from "../support/target.ts";
import { withTable } from "../support/targets-table.ts";

const row: TargetRow = {
  target: "nginx",
  how: "HUP",
  version: "1.22.1",
  seconds: [1.2, 0.84, 1, 3.06, 0.9],
  readsCrl: true,
  revokedRefusedSeconds: 0.31,
  badSetDownSeconds: 0.04,
  newConnections: { made: 12_345, failed: 0 },
  kept: { requests: 33_309, resets: 544 },
  webSockets: { opened: 2, cut: 0 },
};

describe("the table of targets", () => {
  it("has a line for each row, by name, and makes what is not zero stand out", () => {
    const silent = {
      ...row,
      target: "Mosquitto",
      kept: null,
      webSockets: null,
      readsCrl: null,
      revokedRefusedSeconds: null,
    };
    const blind = { ...row, target: "Hitch", readsCrl: false, revokedRefusedSeconds: null, badSetDownSeconds: 2.96 };
    const document = withTable("<!-- table: begin -->\n<!-- table: end -->", [row, silent, blind]);
    assert.deepEqual(document.split("\n").slice(3, -1), [
      "| Hitch | 1.22.1 | HUP | 1.0 s, 3.1 s | 0 of 12 345 | **544 of 33 309** | 0 of 2 | **let in**: reads no CRL | 3.0 s |",
      "| Mosquitto | 1.22.1 | HUP | 1.0 s, 3.1 s | 0 of 12 345 | – | – | – | 0 |",
      "| nginx | 1.22.1 | HUP | 1.0 s, 3.1 s | 0 of 12 345 | **544 of 33 309** | 0 of 2 | refused after 0.3 s | 0 |",
    ]);
  });

  it("keeps the rows of targets that were not run again", () => {
    const caddy = { ...row, target: "Caddy", how: "admin API" };
    const both = withTable("<!-- table: begin -->\n<!-- table: end -->", [row, caddy]);
    const newer = withTable(both, [{ ...row, version: "1.31.5" }], "kept");
    assert.equal(newer, both.replace("| nginx | 1.22.1 |", "| nginx | 1.31.5 |"));
    assert.doesNotMatch(withTable(both, [row]), /Caddy/);
  });

  it("replaces the table of docs/gateways/README.md and nothing else", () => {
    const document = readFileSync(join(import.meta.dirname, "../../docs/gateways/README.md"), "utf8");
    const once = withTable(document, [row]);
    assert.match(once, /\| nginx \| 1\.22\.1 \|/);
    assert.equal(withTable(withTable(once, []), [row]), once);
    assert.equal(once.split("<!-- table: begin -->")[0], document.split("<!-- table: begin -->")[0]);
    assert.throws(() => withTable("no place", [row]), /no <!-- table/);
  });
});
