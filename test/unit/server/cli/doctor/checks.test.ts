/** Each check of `newleaf doctor`: what makes it fire, with which grade, and that it is quiet over a sound service. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { diagnose } from "../../../../../server/cli/doctor/doctor.ts";
import { checks } from "../../../../../server/cli/doctor/checks.ts";
import type { Facts, ServiceFacts } from "../../../../../server/cli/doctor/facts.ts";
import { parseConfig } from "../../../../../server/config.ts";
import type { CrlRecord, IssuerRow } from "../../../../../server/store/issuers.ts";
import type { DatabaseFacts } from "../../../../../server/store/sqlite/inspect.ts";
import { version } from "../../../../../server/version.ts";

const now = Date.UTC(2026, 10, 20);
const minute = 60_000;
const day = 86_400_000;
const gigabyte = 1e9;
const dataDir = "/var/lib/newleaf";
const journalId = "ab".repeat(16);

const config = (more = "") =>
  parseConfig({
    dataDir,
    env: {},
    text: `caName: Lab
journal: /mnt/far/journal
backup: { directory: /mnt/far/backup, recipients: [age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p] }
audit: { checkpoints: { syslog: "udp://log:514" } }
${more}`,
  });

const row = (id: string, kind: "root" | "intermediate", notAfter: number): IssuerRow => ({
  id,
  kind,
  parent: "root",
  state: "active",
  certificate: new Uint8Array(),
  twin: null,
  notBefore: now - 100 * day,
  notAfter,
});
const crl = (issuerId: string, thisUpdate: number, nextUpdate: number): CrlRecord => ({
  issuerId,
  number: 9,
  thisUpdate,
  nextUpdate,
  der: new Uint8Array(),
});
const database: DatabaseFacts = {
  fault: null,
  size: 5e6,
  issuers: [row("root", "root", now + 3000 * day), row("sub", "intermediate", now + 900 * day)],
  crls: [crl("root", now - 99 * day, now + 900 * day), crl("sub", now - minute, now + 14 * day)],
  foundedAt: now - 100 * day,
  clock: { skew: 900, reports: 40 },
  openUnvouched: 0,
  journal: { id: journalId, n: 50, base: 1, lapsed: false },
};
const service: ServiceFacts = {
  pid: 7,
  alive: true,
  version,
  configuration: "digest",
  listeners: {},
  ready: { ok: true, problems: [] },
  metrics: new Map([["newleaf_audit_chain_ok", 1]]),
  certificate: {
    notBefore: now - 5 * day,
    notAfter: now + 25 * day,
    fault: null,
    missing: [],
    protocol: "TLSv1.3",
  },
};
const sound: Facts = {
  now,
  dataDir,
  uid: 990,
  configuration: { config: config(), fault: null, digest: "digest" },
  files: [
    { path: dataDir, kind: "directory", mode: 0o700, uid: 990 },
    { path: `${dataDir}/newleaf.yml`, kind: "public", mode: 0o644, uid: 990 },
    { path: `${dataDir}/newleaf.db`, kind: "secret", mode: 0o600, uid: 990 },
  ],
  database,
  issuerKeys: [{ issuer: "sub", fault: null }],
  rootKeyPresent: false,
  disks: [
    { what: "data", path: dataDir, device: 1, free: 50 * gigabyte, size: 100 * gigabyte },
    { what: "backups", path: "/mnt/far/backup", device: 2, free: 50 * gigabyte, size: 100 * gigabyte },
    { what: "journal", path: "/mnt/far/journal", device: 2, free: 50 * gigabyte, size: 100 * gigabyte },
  ],
  backups: {
    directory: "/mnt/far/backup",
    newest: {
      name: "2026-11-19T03-17-00Z",
      createdAt: now - day,
      encrypted: true,
      journal: { journal: journalId, n: 40 },
    },
    fault: null,
  },
  journal: { directory: "/mnt/far/journal", fault: null },
  service,
};

const inDatabase = (change: Partial<DatabaseFacts>): Facts => ({ ...sound, database: { ...database, ...change } });
const inService = (change: Partial<ServiceFacts>): Facts => ({ ...sound, service: { ...service, ...change } });
const withConfig = (more: string): Facts => ({
  ...sound,
  configuration: { ...sound.configuration, config: config(more) },
});
const withCertificate = (change: Partial<NonNullable<ServiceFacts["certificate"]>>): Facts => {
  assert.ok(service.certificate !== null);
  return inService({ certificate: { ...service.certificate, ...change } });
};
const withFile = (kind: "secret" | "directory" | "public", mode: number, uid = 990): Facts => ({
  ...sound,
  files: [...sound.files, { path: `${dataDir}/x`, kind, mode, uid }],
});
const withBackups = (change: Partial<NonNullable<Facts["backups"]>>): Facts => {
  assert.ok(sound.backups !== null);
  return { ...sound, backups: { ...sound.backups, ...change } };
};
const newestOf = (age: number) => withBackups({ newest: { ...newest(), createdAt: now - age } });
const newest = () => sound.backups?.newest ?? assert.fail();
const withDisk = (what: "data" | "backups" | "journal", change: object): Facts => ({
  ...sound,
  disks: sound.disks.map((disk) => (disk.what === what ? { ...disk, ...change } : disk)),
});
const withCrl = (id: "root" | "sub", left: number): Facts =>
  inDatabase({
    crls: database.crls.map((one) => (one.issuerId === id ? crl(id, now + left - 14 * day, now + left) : one)),
  });

/** Check → what fires it, and the grade; everything else has to stay as it is in a sound service. */
const table: readonly (readonly [check: string, grade: "warning" | "failure", because: string, facts: Facts])[] = [
  [
    "configuration",
    "failure",
    "it does not hold",
    { ...sound, configuration: { config: null, fault: "bad", digest: null } },
  ],
  ["permissions", "failure", "a key that others can read", withFile("secret", 0o640)],
  ["permissions", "failure", "a directory that others can look into", withFile("directory", 0o755)],
  ["permissions", "failure", "a root file that others can change", withFile("public", 0o664)],
  ["ownership", "failure", "a file of somebody else", withFile("secret", 0o600, 0)],
  ["ownership", "warning", "run by another user", { ...sound, uid: 1000 }],
  ["database", "failure", "it cannot be read", { ...sound, database: "gone" }],
  ["database", "failure", "it is damaged", inDatabase({ fault: "row 5 missing from index" })],
  ["issuer keys", "failure", "a key is gone", { ...sound, issuerKeys: [{ issuer: "sub", fault: "ENOENT" }] }],
  ["issuer keys", "failure", "no issuer is active", { ...sound, issuerKeys: [] }],
  ["root key", "failure", "it is still here after weeks", { ...sound, rootKeyPresent: true }],
  [
    "root key",
    "warning",
    "it is still here after days",
    { ...inDatabase({ foundedAt: now - 3 * day }), rootKeyPresent: true },
  ],
  ["CRLs", "failure", "there is none", inDatabase({ crls: database.crls.slice(0, 1) })],
  ["CRLs", "warning", "less than half its life is left", withCrl("sub", 6 * day)],
  ["CRLs", "failure", "less than a quarter is left", withCrl("sub", 3 * day)],
  ["CRLs", "failure", "the root's ends within 60 days", withCrl("root", 59 * day)],
  [
    "issuer horizon",
    "warning",
    "leaves come out short soon",
    inDatabase({ issuers: [row("sub", "intermediate", now + 80 * day)] }),
  ],
  [
    "issuer horizon",
    "failure",
    "leaves come out short",
    inDatabase({ issuers: [row("sub", "intermediate", now + 20 * day)] }),
  ],
  ["journal", "failure", "there is none", { ...sound, journal: null }],
  ["journal", "failure", "it cannot be written", { ...sound, journal: { directory: "/j", fault: "EROFS" } }],
  ["journal", "warning", "it has not begun", inDatabase({ journal: null })],
  [
    "journal",
    "failure",
    "it began after the newest backup",
    inDatabase({ journal: { id: journalId, n: 50, base: 41, lapsed: false } }),
  ],
  [
    "journal",
    "failure",
    "the newest backup is of another one",
    inDatabase({ journal: { id: "cd", n: 50, base: 1, lapsed: false } }),
  ],
  ["journal", "warning", "it is on the same disk", withDisk("journal", { device: 1 })],
  ["backups", "failure", "there is none", withBackups({ newest: null })],
  ["backups", "warning", "the newest is three days old", newestOf(3 * day)],
  ["backups", "failure", "the newest is eight days old", newestOf(8 * day)],
  ["backups", "failure", "the newest is damaged", withBackups({ fault: "newleaf.db is not what was written" })],
  [
    "backups",
    "warning",
    "they are not scheduled",
    {
      ...sound,
      configuration: {
        ...sound.configuration,
        config: { ...config(), backup: { ...config().backup, schedule: null } },
      },
    },
  ],
  ["backup place", "warning", "the same disk", withDisk("backups", { device: 1 })],
  [
    "backup place",
    "warning",
    "not encrypted",
    {
      ...sound,
      configuration: {
        ...sound.configuration,
        config: { ...config(), backup: { ...config().backup, recipients: [] } },
      },
    },
  ],
  ["disk space", "warning", "little room", withDisk("data", { free: 0.9 * gigabyte })],
  ["disk space", "failure", "no room", withDisk("journal", { free: 0.1 * gigabyte })],
  ["clock", "warning", "agents say it is two minutes slow", inDatabase({ clock: { skew: 2 * minute, reports: 9 } })],
  ["clock", "failure", "agents say it is ten minutes fast", inDatabase({ clock: { skew: -10 * minute, reports: 9 } })],
  ["unvouched leaves", "warning", "one was seen", inDatabase({ openUnvouched: 1 })],
  [
    "checkpoints",
    "warning",
    "they stay here",
    {
      ...sound,
      configuration: {
        ...sound.configuration,
        config: { ...config(), audit: { checkpoints: { interval: 1, file: null, syslog: null } } },
      },
    },
  ],
  ["bind addresses", "warning", "admin is open", withConfig("listen: { admin: 0.0.0.0:8445 }")],
  ["bind addresses", "warning", "ops is open", withConfig('listen: { ops: "[::]:9464" }')],
  ["TLS settings", "warning", "1.2 is on", withConfig('tls: { minVersion: "1.2" }')],
  ["running as on disk", "failure", "the process is gone", inService({ alive: false })],
  ["running as on disk", "warning", "another version runs", inService({ version: "0.0.1" })],
  ["running as on disk", "warning", "newleaf.yml was changed", inService({ configuration: "other" })],
  ["service certificate", "failure", "nobody answers", inService({ certificate: null })],
  ["service certificate", "failure", "it does not chain", withCertificate({ fault: "UNABLE_TO_VERIFY" })],
  ["service certificate", "failure", "it is near its end", withCertificate({ notAfter: now + day })],
  ["service certificate", "warning", "it lacks a host", withCertificate({ missing: ["ca.claw"] })],
  ["service", "failure", "ops does not answer", inService({ ready: null })],
  ["service", "failure", "it is not ready", inService({ ready: { ok: false, problems: ["the store cannot commit"] } })],
  ["service", "failure", "the audit log is broken", inService({ metrics: new Map([["newleaf_audit_chain_ok", 0]]) })],
];

suite("the checks of newleaf doctor", () => {
  test("a sound service gives every check its ok, and nothing is left out", () => {
    const { findings, leftOut } = diagnose(sound);
    assert.deepEqual(leftOut, []);
    assert.deepEqual(
      findings.filter(({ grade }) => grade !== "ok"),
      [],
    );
    assert.deepEqual(
      [...new Set(findings.map(({ check }) => check))],
      checks.map(({ name }) => name),
    );
  });

  for (const [check, grade, because, facts] of table) {
    test(`${check}: ${grade} when ${because}`, () => {
      const { findings } = diagnose(facts);
      const told = findings.filter((finding) => finding.grade !== "ok");
      const own = told.filter((finding) => finding.check === check);
      assert.deepEqual(
        own.map((finding) => finding.grade),
        [grade],
      );
      for (const { why, fix } of told) assert.ok((why ?? "") !== "" && (fix ?? "") !== "", "why and what to do");
      const others = told.filter((finding) => finding.check !== check).map((finding) => finding.check);
      assert.deepEqual(others, [], "no other check fires");
    });
  }

  test("each check is seen firing", () => {
    const fired = new Set(table.map(([check]) => check));
    assert.deepEqual(
      checks.map(({ name }) => name).filter((name) => !fired.has(name)),
      [],
    );
  });

  test("few reports say nothing about the clock, and a stopped service leaves out what needs it", () => {
    const few = diagnose(inDatabase({ clock: { skew: 10 * minute, reports: 2 } }));
    assert.deepEqual(
      few.leftOut.map(({ check }) => check),
      ["clock"],
    );
    const stopped = diagnose({ ...sound, service: null });
    assert.deepEqual(
      stopped.leftOut.map(({ check, why }) => `${check}: ${why}`),
      ["running as on disk", "service certificate", "service"].map((check) => `${check}: the service is stopped`),
    );
    assert.equal(stopped.failures, 0);
  });
});
