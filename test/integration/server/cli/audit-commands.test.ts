import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, it } from "node:test";
import { requestJson } from "@newleaf/shared/http-client";
import { isAppError } from "../../../support/errors.ts";
import { credentials, settled } from "../../../support/agent-client.ts";
import { type OperatorCommands, operatorCommands } from "../../../support/operator-commands.ts";
import { startService, type TestService } from "../../../support/service.ts";

interface Line {
  readonly seq: number;
  readonly at: string;
  readonly actor: string;
  readonly actorKind: string;
  readonly action: string;
  readonly target?: string;
  readonly requestId?: string;
  readonly detail?: Readonly<Record<string, unknown>>;
}

let service: TestService;
let operator: OperatorCommands;

before(async () => {
  service = await startService();
  operator = operatorCommands(service);
});
after(() => service[Symbol.asyncDispose]());

const list = (...options: string[]) => operator.json<Line[]>("audit", "list", ...options);

describe("audit list", () => {
  it("tells everything that concerned an identity, by whomever and to whatever it was done", async () => {
    const enrolled = await settled(service, "gateway-1");
    await operator.must(["cert", "revoke", "--serial", enrolled.answer.serial, "--yes"]);
    await operator.must(["identity", "suspend", "gateway-1", "--yes"]);
    const actions = (await list("--identity", "gateway-1")).map(({ action }) => action);
    for (const action of [
      "identity.added",
      "token.created",
      "certificate.issued",
      "certificate.first-used",
      "certificate.revoked",
      "identity.suspended",
    ])
      assert.ok(actions.includes(action), `${action} is not among ${actions.join()}`);
    assert.equal(actions[0], "identity.suspended", "newest first");
    assert.deepEqual(
      new Set((await list("--identity", "gateway-1", "--action", "identity.")).map(({ action }) => action)),
      new Set(["identity.added", "identity.suspended"]),
    );
  });

  it("finds by actor, request and time, and refuses what is no time", async () => {
    const [row] = await list("--action", "identity.suspended");
    assert.deepEqual(
      (await list("--request", row?.requestId ?? "")).map(({ seq }) => seq),
      [row?.seq],
    );
    assert.ok((await list("--actor", "system", "--since", "1h")).every(({ actor }) => actor === "system"));
    assert.deepEqual(await list("--until", "1h"), [], "nothing is an hour old");
    assert.ok((await list("--since", row?.at ?? "", "--limit", "1000")).some(({ seq }) => seq === row?.seq));
    assert.deepEqual(
      (await list("--after", String((row?.seq ?? 0) - 1), "--limit", "1")).map(({ seq }) => seq),
      [row?.seq],
    );
    const { code, err } = await operator.command(["audit", "list", "--since", "yesterday"]);
    assert.deepEqual([code, /write a time .* or how long ago/.test(err)], [2, true], err);
  });

  it("has a row of an agent that reads where only operators may, with its name", async () => {
    const agent = await settled(service, "curious-agent");
    await assert.rejects(
      requestJson({
        url: `${service.urls.admin}/v1/identities`,
        method: "GET",
        tls: { ca: service.roots, ...credentials(agent) },
        timeoutMs: 5_000,
        maxBytes: 10_000,
      }),
      (error: unknown) => isAppError(error, "not-permitted"),
    );
    const [refused] = await list("--identity", "curious-agent", "--action", "request.refused");
    assert.deepEqual(
      [refused?.actorKind, refused?.actor, refused?.detail?.["code"]],
      ["agent", "curious-agent", "not-permitted"],
    );
  });
});

describe("audit list --follow", () => {
  it("shows the last rows, then each new one once, also those written after a restart of the service", async () => {
    const program = join(import.meta.dirname, "../../../../bin/newleaf");
    const follower = spawn(
      program,
      ["audit", "list", "--follow", "--json", "--limit", "2", "--data", service.dataDir],
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    const rows: Line[] = [];
    const told: string[] = [];
    createInterface({ input: follower.stdout }).on("line", (line) => rows.push(JSON.parse(line) as Line));
    follower.stderr.on("data", (text: Buffer) => told.push(text.toString()));
    const until = async (what: string, holds: () => boolean): Promise<void> => {
      for (let waited = 0; !holds(); waited += 50) {
        assert.ok(waited < 20_000, `${what} did not come: ${JSON.stringify(rows)} ${told.join("")}`);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    };
    try {
      await until("the last two", () => rows.length === 2);
      await operator.must(["identity", "add", "followed-1", "--profile", "agent"]);
      await until("the first", () => rows.some(({ target }) => target === "followed-1"));
      await service.restart();
      await operator.must(["identity", "add", "followed-2", "--profile", "agent"]);
      await until("the second", () => rows.some(({ target }) => target === "followed-2"));
      const numbers = rows.map(({ seq }) => seq);
      const first = numbers[0] ?? 0;
      assert.deepEqual(
        numbers,
        numbers.map((_, index) => first + index),
        "each once, in order, none left out",
      );
    } finally {
      follower.kill();
      await once(follower, "exit");
    }
  });

  it("goes on for ever, so it has no end in time", async () => {
    const { code, err } = await operator.command(["audit", "list", "--follow", "--until", "1h"]);
    assert.deepEqual([code, /leave --until out/.test(err)], [2, true]);
  });
});
