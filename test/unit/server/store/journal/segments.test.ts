import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  appendFileSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import type { JournalPosition } from "../../../../../server/store/journal.ts";
import { type JournalAppender, JournalFault, openAppender } from "../../../../../server/store/journal/appender.ts";
import { commandText, formatLine, journalStart, readLine } from "../../../../../server/store/journal/line.ts";
import {
  dropJournalBefore,
  listSegments,
  readJournal,
  readTail,
} from "../../../../../server/store/journal/segments.ts";
import { needs } from "../../../../support/programs.ts";
import { temporaryDirectory } from "../../../../support/temporary-directory.ts";

const scratch = temporaryDirectory("journal");
const journal = randomBytes(16).toString("hex");
const empty = { segment: null, end: 0, lastBytes: 0, lastHash: journalStart };

interface Written {
  readonly directory: string;
  readonly appender: JournalAppender;
  readonly positions: JournalPosition[];
  /** Appends one more line. */
  readonly add: (filler?: string) => void;
}

/** A journal with this many lines. */
function written(lines: number, maxBytes?: number): Written {
  const directory = join(scratch, randomBytes(6).toString("hex"));
  mkdirSync(directory);
  const appender = openAppender({ directory, ...empty }, maxBytes);
  const positions: JournalPosition[] = [{ journal, n: 0, hash: journalStart }];
  const add = (filler = ""): void => {
    const { n = 0, hash: previous = "" } = positions.at(-1) ?? {};
    const at = Date.UTC(2026, 10, 20) + n;
    const audit = { seq: n + 1, hash: previous };
    const line = formatLine({ journal, n: n + 1, at, schema: 1, audit, previous }, [
      commandText("recordAudit", [[{ n, filler }]]),
    ]);
    appender.append({ ...line, n: n + 1, previous, at });
    positions.push({ journal, n: n + 1, hash: line.hash });
  };
  for (let count = 0; count < lines; count++) add();
  return { directory, appender, positions, add };
}

const numbersOf = (directory: string, from: JournalPosition | undefined): number[] =>
  [...readJournal(directory, from ?? { journal, n: 0, hash: journalStart })].map(({ line }) => line.n);

const only = (directory: string): string => {
  const [segment, ...others] = listSegments(directory);
  assert.ok(segment !== undefined && others.length === 0);
  return segment.path;
};

describe("the journal's files", () => {
  it("hold one line a commit, for the owner only, and are read from any position", () => {
    const { directory, positions } = written(5);
    assert.match(readdirSync(directory).join(), /^journal-000000000001-20261120T000000000Z\.jsonl$/);
    assert.equal(statSync(only(directory)).mode & 0o777, 0o600);
    assert.deepEqual(numbersOf(directory, positions[0]), [1, 2, 3, 4, 5]);
    assert.deepEqual(numbersOf(directory, positions[3]), [4, 5]);
    assert.deepEqual(numbersOf(directory, positions[5]), []);
    assert.equal(readTail(directory)?.link.hash, positions[5]?.hash);
    assert.equal(readTail(join(scratch)), null);
  });

  it("have lines whose hash anybody can compute, and no changed byte goes unseen", () => {
    const { directory } = written(1);
    const [text = ""] = readFileSync(only(directory), "utf8").split("\n");
    const line = readLine(text);
    const script = `sed 's/,"hash":"[0-9a-f]*"}$//' | tr -d '\\n' | sha256sum`;
    const sum = execFileSync("sh", ["-c", script], { input: `${text}\n`, encoding: "utf8" });
    assert.equal(sum.slice(0, 64), line.hash);
    for (let index = 0; index < text.length; index++) {
      const changed = text.slice(0, index) + String.fromCodePoint(text.charCodeAt(index) ^ 1) + text.slice(index + 1);
      assert.throws(() => readLine(changed), { name: "DamagedLine" }, `byte ${index}`);
    }
  });

  it("end where the last whole line ends, wherever a crash cut the one that was being written", () => {
    const { directory, positions, add } = written(3);
    const path = only(directory);
    const whole = statSync(path).size;
    add();
    const full = statSync(path).size;
    for (let size = full - 1; size > whole; size--) {
      truncateSync(path, size);
      const tail = readTail(directory);
      assert.deepEqual([tail?.link.n, tail?.end, tail?.torn], [3, whole, size - whole]);
      assert.deepEqual(numbersOf(directory, positions[1]), [2, 3]);
    }
    // A power cut can leave the end of a write without its middle.
    appendFileSync(path, `${"\0".repeat(500)}\n`);
    assert.equal(readTail(directory)?.end, whole);
    const other = written(2);
    writeFileSync(join(other.directory, "journal-000000000003-20261120T000000009Z.jsonl"), '{"journal":"');
    assert.deepEqual([readTail(other.directory)?.link.n, readTail(other.directory)?.remnants.length], [2, 1]);
    assert.deepEqual(numbersOf(other.directory, other.positions[0]), [1, 2]);
  });

  it("are refused, with file and line, when anything but the end is altered, missing or from elsewhere", () => {
    const damage: readonly (readonly [string, (lines: string[]) => string[], RegExp])[] = [
      ["edited", (lines) => lines.with(1, (lines[1] ?? "").replace('"at":1', '"at":2')), /line 2: its hash is not/],
      ["removed", (lines) => lines.toSpliced(2, 1), /line 3: it is line 4 and follows line 2/],
      [
        "swapped",
        (lines) => [lines[0] ?? "", lines[2] ?? "", lines[1] ?? "", ...lines.slice(3)],
        /line 2: it is line 3/,
      ],
      ["torn in the middle", (lines) => lines.with(2, (lines[2] ?? "").slice(0, 40)), /line 3: it is no whole line/],
      ["of another journal", (lines) => lines.with(3, foreignLine(lines[2] ?? "")), /line 4: it belongs to another/],
      [
        "of another history",
        (lines) => lines.with(2, otherLine(lines[1] ?? "")),
        /line 4: it does not follow from line 3/,
      ],
    ];
    for (const [what, change, message] of damage) {
      const { directory, positions } = written(5);
      const path = only(directory);
      const lines = readFileSync(path, "utf8").split("\n").slice(0, -1);
      writeFileSync(path, `${change(lines).join("\n")}\n`);
      assert.throws(() => readTail(directory), { code: "conflict", message }, what);
      assert.throws(() => numbersOf(directory, positions[0]), { code: "conflict", message }, what);
    }
  });

  it("begin anew when told to and when one is large; old ones go when no backup needs them", () => {
    const { directory, positions, add, appender } = written(2, 3000);
    appender.cut();
    appender.cut();
    add();
    for (let count = 0; count < 20; count++) add("x".repeat(200));
    const firsts = listSegments(directory).map((segment) => segment.first);
    assert.deepEqual(firsts.slice(0, 2), [1, 3]);
    assert.ok(firsts.length > 3, firsts.join());
    assert.equal(numbersOf(directory, positions[0]).length, 23);
    assert.throws(() => dropJournalBefore(directory, { journal: "0".repeat(32), n: 9 }), { code: "conflict" });
    assert.deepEqual(dropJournalBefore(directory, { journal, n: 1 }), []);
    assert.equal(dropJournalBefore(directory, { journal, n: 2 }).length, 1);
    assert.throws(() => numbersOf(directory, positions[0]), { code: "conflict", message: /begins with line 3/ });
    assert.equal(numbersOf(directory, positions[2]).length, 21);
    dropJournalBefore(directory, { journal, n: 1000 });
    assert.equal(listSegments(directory).length, 1, "the last one stays");
    const [segment] = listSegments(directory);
    rmSync(segment?.path ?? "");
    assert.throws(() => numbersOf(directory, positions[2]), { code: "conflict", message: /There is no journal in/ });
  });

  it("notice a file that is missing between two others, and a copy that is too old", () => {
    const { directory, positions, add, appender } = written(2);
    for (let count = 0; count < 2; count++) {
      appender.cut();
      add();
      add();
    }
    const [, middle] = listSegments(directory);
    const old = written(1);
    copyFileSync(listSegments(directory)[0]?.path ?? "", only(old.directory));
    assert.throws(() => numbersOf(old.directory, positions[4]), { message: /ends with line 2, before line 4/ });
    rmSync(middle?.path ?? "");
    assert.throws(() => numbersOf(directory, positions[0]), { message: /line 1: it is line 5 and follows line 2/ });
  });
});

describe("appending to the journal", () => {
  it("takes a line away again when its commit failed, also the first of a segment", () => {
    const { directory, appender, positions, add } = written(2);
    const size = statSync(only(directory)).size;
    for (const isCut of [false, true]) {
      if (isCut) appender.cut();
      add();
      positions.pop();
      appender.undo();
      assert.equal(readTail(directory)?.link.n, 2);
    }
    assert.equal(statSync(listSegments(directory)[0]?.path ?? "").size, size);
    add("after");
    assert.deepEqual(numbersOf(directory, positions[0]), [1, 2, 3]);
  });

  it("refuses a file that was removed, cut, replaced or written to by another, and goes on when it is back", () => {
    const { directory, appender, positions, add } = written(3);
    const path = only(directory);
    const content = readFileSync(path);
    const breaks: readonly (readonly [() => void, RegExp])[] = [
      [() => rmSync(path), /was removed/],
      [() => truncateSync(path, content.length - 10), /was changed by somebody else/],
      [() => appendFileSync(path, "{}\n"), /was changed by somebody else/],
    ];
    for (const [act, message] of breaks) {
      act();
      assert.throws(() => add(), { name: "JournalFault", message });
      assert.match(appender.failure() ?? "", /cannot be written .*; nothing was done/);
      assert.throws(() => appender.probe(), JournalFault);
      writeFileSync(path, content);
      appender.probe();
      assert.equal(appender.failure(), null);
    }
    rmSync(path);
    assert.throws(() => add(), JournalFault);
    writeFileSync(path, Buffer.concat([content.subarray(0, -20), Buffer.alloc(19, "x"), Buffer.from("\n")]));
    assert.throws(() => add(), { message: /the last line is another one/ });
    writeFileSync(path, content);
    add();
    assert.deepEqual(numbersOf(directory, positions[0]), [1, 2, 3, 4]);
  });

  it("refuses while the directory is away, and a line that does not follow", () => {
    const { directory, appender, positions, add } = written(1);
    appender[Symbol.dispose]();
    renameSync(directory, `${directory}-away`);
    assert.throws(() => add(), { message: /ENOENT.*is it still mounted\?/ });
    assert.throws(() => appender.probe(), JournalFault);
    renameSync(`${directory}-away`, directory);
    add();
    positions.pop();
    assert.throws(() => add(), { message: /line 2 does not follow the last one/ });
  });

  it("never leaves half a line when the disk is full", { skip: needs("prlimit") }, () => {
    const { directory, appender, add } = written(1);
    const path = only(directory);
    const size = statSync(path).size;
    const limit = (soft: string): void => {
      execFileSync("prlimit", ["--pid", String(process.pid), `--fsize=${soft}:unlimited`]);
    };
    limit(String(size + 100));
    try {
      assert.throws(() => add(), { name: "JournalFault", message: /EFBIG/ });
      assert.equal(statSync(path).size, size);
    } finally {
      limit("unlimited");
    }
    add();
    assert.equal(appender.failure(), null);
    assert.equal(readTail(directory)?.link.n, 2);
  });
});

/** The line that follows, of a journal that is not this one. */
function foreignLine(before: string): string {
  const { n, hash } = readLine(before);
  return line("f".repeat(32), n + 1, hash);
}

/** A line in the right place that is not the one which stood there. */
function otherLine(before: string): string {
  const { n, hash } = readLine(before);
  return line(journal, n + 1, hash);
}

function line(id: string, n: number, previous: string): string {
  const audit = { seq: 1, hash: journalStart };
  return formatLine({ journal: id, n, at: 1, schema: 1, audit, previous }, []).text.trimEnd();
}
