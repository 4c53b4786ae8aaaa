/**
 * The audit log altered by somebody who can write the database, or a copy: what verification finds, where it says it is, and what no
 * verifier can see without the checkpoints that were kept elsewhere.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import {
  type Checkpoint,
  checkpointLine,
  findCheckpoint,
  issuerKeys,
  signCheckpoint,
} from "../../../../server/audit-checkpoint.ts";
import { createRoot } from "../../../../server/ca/ceremony.ts";
import { openIssuer } from "../../../../server/ca/issuer.ts";
import { type AuditReport, createAuditVerifier } from "../../../../server/audit-verify.ts";
import { generateKey } from "@newleaf/shared/key-algorithm";
import { pemDecode, pemEncode } from "@newleaf/shared/pem";
import { firstMarkFrom, forgeries, noCheckpoints } from "../../../support/audit-forgeries.ts";
import { type Forger, forger } from "../../../support/audit-forger.ts";
import { type OperatorCommands, operatorCommands } from "../../../support/operator-commands.ts";
import { startService, type TestService } from "../../../support/service.ts";
import { newleaf } from "../../../support/terminal.ts";
import { temporaryDirectory } from "../../../support/temporary-directory.ts";

const offBox = temporaryDirectory("off-box");
let service: TestService;
let operator: OperatorCommands;
let database: string;
/** Checkpoints as they were kept elsewhere, oldest first. */
let elsewhere: readonly Checkpoint[];
let issuers: ReturnType<typeof issuerKeys>;
/** A row with every column, between two checkpoints, and the last row. */
let row: number;
let last: number;
let copy: readonly string[];

before(async () => {
  const file = join(offBox, "checkpoints");
  service = await startService({ NEWLEAF_AUDIT_CHECKPOINTS_FILE: file });
  operator = operatorCommands(service);
  for (const round of [1, 2]) {
    for (let index = 0; index < 4; index++) await service.token(`host-${round}-${index}`);
    await service.restart();
  }
  const all = await service.admin<{ rows: { seq: number; action: string }[] }>("GET", "/v1/audit/chain?limit=5000");
  row = all.rows.filter(({ action }) => action === "token.created").at(-2)?.seq ?? assert.fail();
  await operator.must(["audit", "export", "--out", join(service.dir, "copy.jsonl")]);
  copy = readFileSync(join(service.dir, "copy.jsonl"), "utf8").trimEnd().split("\n");
  await service.server[Symbol.asyncDispose]();
  database = join(service.dataDir, "newleaf.db");
  const lines = readFileSync(file, "utf8").trimEnd().split("\n");
  elsewhere = lines.map((line) => findCheckpoint(line) ?? assert.fail(line));
  issuers = issuerKeys(
    copy
      .filter((line) => line.includes('"certificate"'))
      .flatMap((line) => pemDecode((JSON.parse(line) as { certificate: string }).certificate, "CERTIFICATE")),
  );
  using untouched = forger(database, join(service.dir, "untouched.db"));
  last = (await untouched.rows()).length;
});

after(() => service[Symbol.asyncDispose]());

async function verdict(altered: Forger, given: readonly Checkpoint[]): Promise<AuditReport> {
  const own = (await altered.checkpoints()).map((line, index) => ({
    checkpoint: findCheckpoint(line) ?? assert.fail(line),
    place: `checkpoint ${index + 1}`,
    offBox: false,
  }));
  const kept = given.map((checkpoint) => ({ checkpoint, place: "elsewhere", offBox: true }));
  const verifier = createAuditVerifier({ issuers, checkpoints: [...own, ...kept] });
  verifier.add(await altered.rows());
  return verifier.end();
}

describe("the audit log altered in the database", () => {
  it("holds untouched, with and without the checkpoints kept elsewhere, which cover all of it", async () => {
    using untouched = forger(database, join(service.dir, "altered.db"));
    for (const kept of [[], elsewhere]) {
      const report = await verdict(untouched, kept);
      assert.deepEqual([report.ok, report.findings, report.unprotected], [true, [], 0]);
      assert.equal(report.covered?.seq, last);
    }
    assert.ok(elsewhere.length >= 5, "at each start and stop");
    const [first] = elsewhere;
    const early = await verdictWithout(untouched, first === undefined ? [] : [first]);
    assert.deepEqual([early.ok, early.covered?.seq, early.unprotected], [true, first?.seq, last - (first?.seq ?? 0)]);
  });

  for (const { name, alter, finds, onlyElsewhere } of forgeries) {
    it(`${name}${onlyElsewhere === true ? ": seen only from elsewhere" : ""}`, async () => {
      using altered = forger(database, join(service.dir, "altered.db"));
      await alter(altered, { row, last, elsewhere });
      const alone = await verdict(altered, []);
      const [kind, seq] = finds;
      const expected = [kind, seq({ row, last, elsewhere })];
      if (onlyElsewhere === true) assert.equal(alone.ok, true, "nothing in the database tells of it");
      else assert.deepEqual([alone.findings[0]?.kind, alone.findings[0]?.seq], expected, alone.findings[0]?.reason);
      const compared = await verdict(altered, elsewhere);
      assert.equal(compared.ok, false);
      const found = compared.findings.map((finding) => [finding.kind, finding.seq]);
      assert.ok(
        found.some((finding) => String(finding) === String(expected)),
        `${JSON.stringify(expected)} is not among ${JSON.stringify(compared.findings)}`,
      );
    });
  }
});

/** With the log's own checkpoints gone. */
async function verdictWithout(altered: Forger, given: readonly Checkpoint[]): Promise<AuditReport> {
  noCheckpoints(altered);
  return verdict(altered, given);
}

describe("a copy that was altered, by `audit verify --file` without a service", () => {
  const verifyCopy = async (lines: readonly string[], ...more: string[]) => {
    const file = join(service.dir, "altered.jsonl");
    writeFileSync(file, `${lines.join("\n")}\n`);
    return operator.command(["audit", "verify", "--file", file, ...more]);
  };
  const lineOf = (seq: number): number =>
    copy.findIndex((line) => line.includes(`"seq":${seq},`) && line.includes('"actor"'));
  const checkpointsFile = () => {
    const file = join(service.dir, "elsewhere");
    writeFileSync(
      file,
      elsewhere
        .slice(0, -1)
        .map((kept) => `Nov 20 03:17:00 host newleaf[1]: {x} ${checkpointLine(kept)}\n`)
        .join(""),
    );
    return file;
  };

  it("holds untouched, also with the lines of a syslog, and says what is covered", async () => {
    const { code, out, err } = await verifyCopy(copy, "--checkpoints", checkpointsFile());
    assert.equal(code, 0, err);
    assert.match(out, /^The chain holds: \d+ rows/);
    assert.match(out, /covers rows 1 to \d+\.\nRows after it, protected by the chain alone: \d+\n$/);
  });

  const alterations: readonly (readonly [string, () => readonly string[], () => RegExp])[] = [
    [
      "a line edited",
      () => copy.with(lineOf(row), (copy[lineOf(row)] ?? "").replace('"actor":"', '"actor":"x')),
      () => new RegExp(`row ${row} was altered`),
    ],
    [
      "a member put in",
      () => copy.with(lineOf(row), (copy[lineOf(row)] ?? "").replace("{", '{"note":"x",')),
      () => new RegExp(`row ${row} was altered: a row has no member "note"`),
    ],
    ["a line removed", () => copy.toSpliced(lineOf(row), 1), () => new RegExp(`row ${row} is missing`)],
    [
      "a line doubled",
      () => copy.toSpliced(lineOf(row), 0, copy[lineOf(row)] ?? ""),
      () => new RegExp(`row ${row} lies behind row ${row}: it stands there twice`),
    ],
    [
      "two lines swapped",
      () => copy.with(lineOf(row), copy[lineOf(row - 1)] ?? "").with(lineOf(row - 1), copy[lineOf(row)] ?? ""),
      () => new RegExp(`row ${row - 1} lies behind row ${row}: it is out of order`),
    ],
    ["the end cut off", () => copy.slice(0, lineOf(firstMarkFrom(row, { elsewhere }))), () => /its end was cut off/],
    [
      "a checkpoint edited",
      () => copy.map((line) => (line.includes('"signature"') ? line.replace('"at":"20', '"at":"19') : line)),
      () => /signature of the checkpoint .* does not hold/,
    ],
    ["half a line", () => [...copy.slice(0, -1), (copy.at(-1) ?? "").slice(0, 40)], () => /is no row of an audit log/],
  ];
  for (const [name, lines, reason] of alterations) {
    it(`${name}: found`, async () => {
      const { code, err } = await verifyCopy(lines());
      assert.equal(code, 1);
      assert.match(err, reason());
    });
  }

  it("issuers of the forger's own: no root vouches for them", async () => {
    const key = await generateKey("ecdsa-p256");
    const now = Date.now();
    const der = await createRoot({ caName: "Test Lab", now, key, random: randomBytes(16) });
    const certificate = pemEncode("CERTIFICATE", der);
    const forged = checkpointLine(signCheckpoint({ seq: last, hash: "0".repeat(64) }, now, openIssuer(der, key)));
    const { code, err } = await verifyCopy([JSON.stringify({ issuer: "forged", certificate }), ...copy, forged]);
    assert.equal(code, 1);
    assert.match(err, /which is none of those trusted here/);
    const named = join(service.dir, "forger.pem");
    writeFileSync(named, certificate);
    const asNamed = await verifyCopy([...copy, forged], "--issuer", named);
    assert.match(
      asNamed.err,
      new RegExp(`row ${last} is not the one that the checkpoint`),
      "now it is one to be compared with",
    );
  });

  it("issuers named by their root, anywhere: no data directory is needed", async () => {
    const named = await verifyCopy(copy, "--issuer", service.rootsFile, "--data", join(service.dir, "nowhere"));
    assert.equal(named.code, 0, named.err);
    assert.doesNotMatch(named.out, /come from the log itself/);
    const unnamed = await newleaf(["audit", "verify", "--file", join(service.dir, "copy.jsonl"), "--data", "/nowhere"]);
    assert.equal(unnamed.code, 0, unnamed.err);
    assert.match(unnamed.out, /The issuers come from the log itself/);
  });

  it("a file without checkpoints is wrong usage, not a comparison that held", async () => {
    const file = join(service.dir, "no-checkpoints");
    writeFileSync(file, "nothing here\n");
    const { code, err } = await verifyCopy(copy, "--checkpoints", file);
    assert.deepEqual([code, /has no checkpoint in it/.test(err)], [2, true], err);
  });
});
