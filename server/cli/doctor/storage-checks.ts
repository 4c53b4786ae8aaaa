/** Checks of what is kept where: backups, the journal, room on the disks. */
import { failure, type Finding, ok, warning } from "./finding.ts";
import type { Facts } from "./facts.ts";

const day = 86_400_000;
/** With a nightly backup one may fail. */
const lateBackup = 50 * 3_600_000;
const oldBackup = 7 * day;
const littleRoom = { share: 0.1, octets: 1e9 };
const noRoom = { share: 0.02, octets: 200e6 };

export function journal(facts: Facts): readonly Finding[] | null {
  const { journal: found, database, backups, disks: volumes, configuration } = facts;
  if (configuration.config === null) return null;
  if (found === null) {
    return [
      failure(
        "there is no journal",
        "a restored backup forgets what came after it: revocations, serials, spent tokens, lifted roles",
        "give `journal` in newleaf.yml a directory on another machine (docs/journal.md)",
      ),
    ];
  }
  const { directory, fault } = found;
  if (fault !== null)
    return [
      failure(
        `the journal in ${directory} cannot be written: ${fault}`,
        "nothing is issued, revoked or recorded until it can",
        "free room, or mount it again; the service goes on by itself",
      ),
    ];
  const findings: Finding[] = [];
  const place = typeof database === "string" ? undefined : database.journal;
  if (place === null)
    findings.push(
      warning(
        `the journal in ${directory} has not begun yet`,
        "it begins when the service is started with it",
        "restart the service",
      ),
    );
  const newest = backups?.newest;
  const covered = newest?.journal;
  if (place != null && newest != null && (covered == null || covered.journal !== place.id || covered.n < place.base))
    findings.push(
      failure(
        "no backup is as new as the beginning of the journal",
        "what lies between the newest backup and the journal's beginning could not be restored",
        "newleaf backup create",
      ),
    );
  if (onOneDevice(volumes, "journal"))
    findings.push(
      warning(
        `the journal in ${directory} is on the same disk as the data`,
        "a disk that is lost takes both",
        "put it on another machine (docs/journal.md)",
      ),
    );
  return findings.length > 0
    ? findings
    : [ok(`the journal in ${directory} can be written, and reaches back before the newest backup`)];
}

export function backupAge({ backups, configuration, now }: Facts): readonly Finding[] | null {
  const { config } = configuration;
  if (backups === null || config === null) return null;
  const { newest, fault, directory } = backups;
  const fix = "newleaf backup create; the service's log says why the scheduled one failed";
  const why = "what is not in a backup or the journal is lost with this disk";
  if (newest === null) return [failure(`there is no backup in ${directory}`, why, fix)];
  if (fault !== null)
    return [
      failure(
        `the newest backup, ${newest.name}, is damaged: ${fault}`,
        "it cannot be restored",
        `newleaf backup verify ${directory}/${newest.name}; then: newleaf backup create`,
      ),
    ];
  const age = now - newest.createdAt;
  const says = `the newest backup, ${newest.name}, is ${age < 2 * day ? `${Math.round(age / 3_600_000)} hours` : `${Math.floor(age / day)} days`} old`;
  const findings = [age > oldBackup ? failure(says, why, fix) : age > lateBackup ? warning(says, why, fix) : ok(says)];
  if (config.backup.schedule === null)
    findings.push(
      warning(
        "backups are not scheduled",
        "they are made only when somebody thinks of it",
        "give backup.schedule in newleaf.yml a time",
      ),
    );
  return findings;
}

/** A backup beside what it is of is lost with it; without encryption it holds no key to go on with. */
export function backupPlace({ backups, disks: volumes, configuration }: Facts): readonly Finding[] | null {
  const { config } = configuration;
  if (backups === null || config === null) return null;
  const findings: Finding[] = [];
  if (onOneDevice(volumes, "backups"))
    findings.push(
      warning(
        `backups in ${backups.directory} are on the same disk as the data`,
        "a disk that is lost takes both",
        "give backup.directory in newleaf.yml a place on another machine",
      ),
    );
  if (config.backup.recipients.length === 0)
    findings.push(
      warning(
        "backups are not encrypted, so they hold no issuing key",
        "a restored service can sign nothing until the key is brought from elsewhere",
        "set backup.recipients (newleaf backup key), or keep issuers/*.key.pem in a safe place (docs/backup.md)",
      ),
    );
  return findings.length > 0 ? findings : [ok(`backups go to ${backups.directory}, encrypted, on another disk`)];
}

export function disks({ disks: volumes }: Facts): readonly Finding[] {
  const findings: Finding[] = [];
  const fine: string[] = [];
  for (const { what, path, free, size } of volumes) {
    const says = `${path} (${what}) has ${megabytes(free)} free of ${megabytes(size)}`;
    const why = what === "backups" ? "the next backup fails" : "when it is full nothing is issued, revoked or recorded";
    const fix = "make room, or move it to a larger disk";
    const isBelow = (limit: typeof noRoom) => free < Math.min(limit.octets, size * limit.share);
    if (isBelow(noRoom)) findings.push(failure(says, why, fix));
    else if (isBelow(littleRoom)) findings.push(warning(says, why, fix));
    else fine.push(`${megabytes(free)} for ${what}`);
  }
  return findings.length > 0 ? findings : [ok(`free: ${fine.join(", ")}`)];
}

function onOneDevice(volumes: Facts["disks"], what: "backups" | "journal"): boolean {
  const data = volumes.find((volume) => volume.what === "data");
  const other = volumes.find((volume) => volume.what === what);
  return data !== undefined && other !== undefined && data.device === other.device;
}

function megabytes(octets: number): string {
  return octets >= 10e9 ? `${Math.round(octets / 1e9)} GB` : `${Math.round(octets / 1e6)} MB`;
}
