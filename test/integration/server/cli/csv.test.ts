import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { newKey } from "../../../support/agent-client.ts";
import { type OperatorCommands, operatorCommands } from "../../../support/operator-commands.ts";
import { startService, type TestService } from "../../../support/service.ts";

let service: TestService;
let operator: OperatorCommands;

const linesOf = (csv: string): string[] => csv.split("\r\n").slice(0, -1);

describe("--csv", () => {
  before(async () => {
    service = await startService();
    operator = operatorCommands(service);
    const row = (index: number) => ({
      at: service.clock.now(),
      actorKind: "system" as const,
      actor: "system",
      action: "test.row",
      target: `row ${index}\nof many`,
    });
    await service.server.authority.store.recordAudit(Array.from({ length: 1_234 }, (_, index) => row(index)));
  });
  after(() => service[Symbol.asyncDispose]());

  it("prints all pages of a list under one line of headings", async () => {
    const out = await operator.must(["audit", "list", "--action", "test.row", "--csv"]);
    const lines = linesOf(out);
    assert.equal(lines.length, 1 + 1_234);
    assert.match(lines[0] ?? "", /^seq,actorKind,actor,action,target,/);
    assert.equal(lines.filter((line) => line.startsWith("seq,")).length, 1);
    const targets = new Set([...out.matchAll(/"(row \d+\nof many)"/g)].map(([, target]) => target));
    assert.equal(targets.size, 1_234);
    assert.equal(linesOf(await operator.must(["audit", "list", "--csv", "--limit", "7"])).length, 8);
    assert.equal(linesOf(await operator.must(["audit", "list", "--csv", "--limit", "600"])).length, 601);
  });

  it("makes no formula of what a stranger wrote", async () => {
    await operator.enroll(await newKey(), { claim: `=HYPERLINK("https://evil.example","web")` });
    const [, request = ""] = linesOf(await operator.must(["approvals", "list", "--csv"]));
    assert.ok(request.includes(`"'=HYPERLINK(""https://evil.example"",""web"")"`), request);
  });

  it("is there for every list", async () => {
    await operator.enrolled("web");
    const lists = [
      ["identity", "list"],
      ["cert", "list"],
      ["lineage", "list"],
      ["token", "list"],
      ["operator", "list"],
      ["ca", "list"],
    ];
    for (const argv of lists) {
      const lines = linesOf(await operator.must([...argv, "--csv"]));
      assert.ok(lines.length > 1, `${argv.join(" ")}: ${lines.join("\n")}`);
    }
    const [heading, line = ""] = linesOf(await operator.must(["identity", "list", "--profile", "agent", "--csv"]));
    assert.match(heading ?? "", /\bleaf\.serial\b.*\blastSeen\b/);
    assert.match(line, /^web,agent,/);
  });

  it("is wrong usage beside --json or --follow", async () => {
    for (const other of ["--json", "--follow"]) {
      const { code, err } = await operator.command(["audit", "list", "--csv", other]);
      assert.deepEqual([code, /cannot be used with option/.test(err)], [2, true], err);
    }
  });
});
