/**
 * The checks: each looks at facts and says ok, warning or failure, with what is so, why that matters and what to do. A check that has
 * nothing to look at (the service is stopped, the configuration does not hold) gives null and is told as left out.
 */
import { backupAge, backupPlace, disks, journal } from "./storage-checks.ts";
import {
  bindings,
  checkpoints,
  runningAsOnDisk,
  serviceCertificate,
  tlsSettings,
  whatTheServiceSays,
} from "./service-checks.ts";
import type { Facts } from "./facts.ts";
import { failure, type Finding, ok, warning } from "./finding.ts";

export interface Check {
  readonly name: string;
  /** Needs a running service, a configuration that holds, or a database that can be read. */
  readonly needs: "service" | "configuration" | "database" | null;
  readonly look: (facts: Facts) => readonly Finding[] | null;
}

const minute = 60_000;
const day = 86_400_000;
/** A new intermediate, and a CRL of the root, are made at a ceremony: time to arrange it. */
const ceremonyNotice = 60 * day;
const rootKeyGrace = 30 * day;
const notableSkew = minute;
const wrongClock = 5 * minute;
/** Fewer reports say more about their hosts than about us. */
const fewestClocks = 3;

export function configuration({ configuration: { fault } }: Facts): readonly Finding[] {
  if (fault === null) return [ok("newleaf.yml holds")];
  return [failure(fault, "the service does not start with it", "mend it, then: newleaf serve --check-config")];
}

/** Secrets are the owner's alone; everything belongs to whoever owns the data directory. */
export function permissions({ files, dataDir }: Facts): readonly Finding[] {
  const open = files.filter(({ kind, mode }) => kind === "secret" && (mode & 0o077) !== 0);
  const wide = files.filter(({ kind, mode }) => kind === "directory" && (mode & 0o077) !== 0);
  const writable = files.filter(({ kind, mode }) => kind === "public" && (mode & 0o022) !== 0);
  const paths = (found: typeof files) => found.map(({ path }) => path).join(" ");
  const findings: Finding[] = [];
  if (open.length > 0)
    findings.push(
      failure(
        `others can read ${paths(open)}`,
        "whoever reads these can issue or see secrets",
        `chmod 600 ${paths(open)}`,
      ),
    );
  if (wide.length > 0)
    findings.push(
      failure(
        `others can look into ${paths(wide)}`,
        "what is made in there is a secret for as long as it takes to close it",
        `chmod 700 ${paths(wide)}`,
      ),
    );
  if (writable.length > 0)
    findings.push(
      failure(
        `others can change ${paths(writable)}`,
        "who changes these decides what is trusted",
        `chmod go-w ${paths(writable)}`,
      ),
    );
  return findings.length > 0
    ? findings
    : [ok(`${files.length} files and directories of ${dataDir} are closed to others`)];
}

export function ownership({ files, dataDir, uid }: Facts): readonly Finding[] {
  const owner = files.find(({ path }) => path === dataDir)?.uid ?? uid;
  const foreign = files.filter((file) => file.uid !== owner);
  if (foreign.length > 0) {
    const paths = foreign.map(({ path }) => path).join(" ");
    return [
      failure(
        `${paths} do not belong to uid ${owner}, as the data directory does`,
        "the service cannot read them, or somebody else can change them",
        `chown ${owner} ${paths}`,
      ),
    ];
  }
  if (uid !== owner && uid !== 0)
    return [
      warning(
        `this is uid ${uid}; the data directory belongs to uid ${owner}`,
        "some of this may not be what the service sees",
        "run doctor as the owner",
      ),
    ];
  return [ok(`everything belongs to uid ${owner}`)];
}

export function issuerKeys({ issuerKeys: keys }: Facts): readonly Finding[] {
  const wrong = keys.filter(({ fault }) => fault !== null);
  if (keys.length === 0)
    return [
      failure(
        "no active issuer",
        "nothing can be issued",
        "newleaf ca list; see docs/revocation.md for a new intermediate",
      ),
    ];
  if (wrong.length === 0) return [ok(`the keys of ${keys.map(({ issuer }) => issuer).join(", ")} are there and match`)];
  return wrong.map(({ issuer, fault }) =>
    failure(
      `issuer ${issuer}: ${fault ?? ""}`,
      "it can sign neither leaves nor CRLs; proxies refuse everybody when the CRL ends",
      "put the key back from where it is kept (docs/backup.md)",
    ),
  );
}

export function rootKey({ rootKeyPresent, database, now }: Facts): readonly Finding[] {
  if (!rootKeyPresent) return [ok("the root's key is not on this host")];
  const founded = typeof database === "string" ? null : database.foundedAt;
  const since = founded === null ? 0 : now - founded;
  const judge = since > rootKeyGrace ? failure : warning;
  return [
    judge(
      `the root's key is still on this host${founded === null ? "" : `, ${Math.floor(since / day)} days after it was made`}`,
      "whoever breaks in here and guesses its passphrase can make CAs that every host trusts",
      "carry offline/ away: offline/README.txt says how",
    ),
  ];
}

export function integrity({ database }: Facts): readonly Finding[] {
  if (typeof database === "string")
    return [
      failure(
        database,
        "the service cannot start or loses what it writes",
        "do what it says; when it is damaged, restore the newest backup (docs/backup.md)",
      ),
    ];
  if (database.fault !== null)
    return [
      failure(
        `the database is damaged: ${database.fault}`,
        "what it answers cannot be relied on",
        "stop the service and restore the newest backup (docs/backup.md); look at the disk",
      ),
    ];
  return [ok(`SQLite finds no fault in ${Math.ceil(database.size / 1e6)} MB`)];
}

/** Agents' clocks are many; when the middle of them differs from ours, ours is the one that is wrong. */
export function clock({ database }: Facts): readonly Finding[] | null {
  if (typeof database === "string" || database.clock === null || database.clock.reports < fewestClocks) return null;
  const { skew, reports } = database.clock;
  const seconds = Math.round(Math.abs(skew) / 1000);
  const says = `the clocks of ${reports} agents are, in the middle, ${seconds} s ${skew >= 0 ? "ahead of" : "behind"} this one`;
  if (Math.abs(skew) < notableSkew) return [ok(says)];
  const judge = Math.abs(skew) >= wrongClock ? failure : warning;
  return [
    judge(
      says,
      "certificates begin and end by this clock, and CRLs are refused as not yet valid",
      "look at this host's time synchronisation: timedatectl",
    ),
  ];
}

/** Those of issuers whose key is here are published hourly; the root's is made at a ceremony. */
export function crls({ database, now }: Facts): readonly Finding[] | null {
  if (typeof database === "string") return null;
  const findings: Finding[] = [];
  for (const row of database.issuers) {
    if (row.state === "retired" && row.revokedAt == null) continue;
    const crl = database.crls.find(({ issuerId }) => issuerId === row.id);
    const what = row.kind === "root" ? `the root's CRL (${row.id})` : `the CRL of ${row.id}`;
    const why = "when it ends, proxies refuse every client";
    if (crl === undefined) {
      findings.push(failure(`there is no CRL of ${row.id}`, why, "newleaf crl publish"));
      continue;
    }
    const left = crl.nextUpdate - now;
    const says = `${what} ${left <= 0 ? "ended" : "ends"} ${new Date(crl.nextUpdate).toISOString()}`;
    if (row.kind === "root") {
      const fix = "make a new one with its key, at a ceremony (newleaf ca crl, newleaf ca import; docs/revocation.md)";
      findings.push(left < ceremonyNotice ? failure(says, why, fix) : ok(says));
      continue;
    }
    const life = crl.nextUpdate - crl.thisUpdate;
    const fix = "is the service running? newleaf crl publish; its log says why it could not";
    if (left < life / 4) findings.push(failure(says, why, fix));
    else findings.push(left < life / 2 ? warning(says, why, fix) : ok(says));
  }
  return findings;
}

export function issuerHorizon({ database, configuration: { config }, now }: Facts): readonly Finding[] | null {
  if (typeof database === "string" || config === null) return null;
  const leafLife = Math.max(config.profiles.agent.validity, config.profiles.gateway.validity);
  const active = database.issuers.filter((row) => row.kind === "intermediate" && row.state === "active");
  return active.map((row) => {
    const horizon = row.notAfter - leafLife;
    const says = `issuer ${row.id} gives whole leaves until ${new Date(horizon).toISOString()}`;
    const why = "from then on leaves come out shorter than their profile, and at its end there are none";
    const fix = "make a new intermediate at a ceremony before that (newleaf ca list)";
    if (horizon < now) return failure(says, why, fix);
    return horizon - now < ceremonyNotice ? warning(says, why, fix) : ok(says);
  });
}

export function unvouched({ database }: Facts): readonly Finding[] | null {
  if (typeof database === "string") return null;
  const { openUnvouched: open } = database;
  if (open === 0) return [ok("every leaf that was seen is known")];
  return [
    warning(
      open === 1
        ? "1 leaf with our signature is unknown to the store and refused"
        : `${open} leaves with our signature are unknown to the store and refused`,
      "after a restore without its journal they are the leaves issued since; at any other time somebody else signs with the issuer's key",
      "newleaf cert unvouched list --state open",
    ),
  ];
}

/** In the order in which they are told. */
export const checks: readonly Check[] = [
  { name: "configuration", needs: null, look: configuration },
  { name: "permissions", needs: null, look: permissions },
  { name: "ownership", needs: null, look: ownership },
  { name: "database", needs: null, look: integrity },
  { name: "issuer keys", needs: "database", look: issuerKeys },
  { name: "root key", needs: null, look: rootKey },
  { name: "CRLs", needs: "database", look: crls },
  { name: "issuer horizon", needs: "database", look: issuerHorizon },
  { name: "journal", needs: "configuration", look: journal },
  { name: "backups", needs: "configuration", look: backupAge },
  { name: "backup place", needs: "configuration", look: backupPlace },
  { name: "disk space", needs: null, look: disks },
  { name: "clock", needs: "database", look: clock },
  { name: "unvouched leaves", needs: "database", look: unvouched },
  { name: "checkpoints", needs: "configuration", look: checkpoints },
  { name: "bind addresses", needs: "configuration", look: bindings },
  { name: "TLS settings", needs: "configuration", look: tlsSettings },
  { name: "running as on disk", needs: "service", look: runningAsOnDisk },
  { name: "service certificate", needs: "service", look: serviceCertificate },
  { name: "service", needs: "service", look: whatTheServiceSays },
];
