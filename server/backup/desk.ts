/** The running service's backups: one at a time, the configured number kept, the journal cut where the oldest of them begins. */
import { access, constants, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "@newleaf/shared/clock";
import { AppError } from "@newleaf/shared/problems";
import type { Backups, BackupRequest, BackupSummary } from "../authority/backups.ts";
import type { ServerConfig } from "../config.ts";
import { dropJournalBefore } from "../store/journal/segments.ts";
import type { Store } from "../store/store.ts";
import { type BackupOrder, makeBackup } from "./create.ts";
import { listBackups, prune } from "./shelf.ts";

export interface BackupDesk {
  readonly store: Pick<Store, "copyTo" | "cutJournal">;
  readonly config: Pick<ServerConfig, "backup" | "dataDir" | "journal">;
  readonly clock: Clock;
  /** Of Newleaf. */
  readonly version: string;
  /** The active issuer, when its key is at hand. */
  readonly signer: () => BackupOrder["signer"];
  /** Ids of this authority's issuers: other backups in the directory are not its own. */
  readonly issuerIds: () => readonly string[];
}

/** Looks at what is on disk first. */
export async function openBackups(desk: BackupDesk): Promise<Backups> {
  const { config } = desk;
  await removeScratch(config.dataDir);
  const list = async (): Promise<readonly BackupSummary[]> => {
    const own = new Set(desk.issuerIds());
    const all = await listBackups(config.backup.directory);
    return all.filter(({ crls }) => Object.keys(crls).some((issuer) => own.has(issuer)));
  };
  // One of the future says nothing of when the last was made, and would keep the next from being missed.
  let last = (await list()).find(({ createdAt }) => createdAt <= desk.clock.now())?.createdAt ?? null;
  let busy = false;
  return {
    async make(request) {
      if (busy)
        throw new AppError("conflict", "A backup is being made already; wait for it", { retryAfterSeconds: 30 });
      busy = true;
      try {
        const made = await makeAndTidy(desk, request);
        if (request.directory === undefined) last = made.createdAt;
        return made;
      } finally {
        busy = false;
      }
    },
    list,
    lastSuccessAt: () => last,
  };
}

async function makeAndTidy(desk: BackupDesk, request: BackupRequest): Promise<BackupSummary> {
  const { backup, dataDir } = desk.config;
  if (request.directory !== undefined) await requireWritable(request.directory);
  // Before the copy: what the copy lacks is then in segments that begin no later than it ends.
  await desk.store.cutJournal();
  const made = await makeBackup({
    store: desk.store,
    dataDir,
    directory: request.directory ?? backup.directory,
    recipients: request.recipients ?? backup.recipients,
    now: desk.clock.now(),
    version: desk.version,
    signer: desk.signer(),
  });
  // Backups elsewhere are somebody's own: nothing is removed there, nor for their sake.
  if (request.directory === undefined) {
    const kept = await prune(backup.directory, made, backup.keep);
    dropJournal(desk, kept, made);
  }
  return made;
}

/** Whoever asks over the network names a place that was made for it: nothing is made anywhere on his word. */
async function requireWritable(directory: string): Promise<void> {
  try {
    await access(directory, constants.W_OK | constants.X_OK);
    if ((await stat(directory)).isDirectory()) return;
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? "error";
    throw new AppError(
      "request-invalid",
      `The service cannot write to ${directory.slice(0, 200)} (${code}); make the directory first, mode 0700, the service's user its owner`,
      { cause },
    );
  }
  throw new AppError("request-invalid", `${directory.slice(0, 200)} is not a directory on the service's host`);
}

/** What every kept backup of this journal has, no restore will ask for. A backup of another journal needs nothing of this one. */
function dropJournal({ config }: BackupDesk, kept: readonly BackupSummary[], made: BackupSummary): void {
  const place = made.journal;
  if (config.journal === null || place === null) return;
  const places = kept.flatMap(({ journal }) => (journal?.journal === place.journal ? [journal] : []));
  const [oldest = place] = places.toSorted((a, b) => a.n - b.n);
  dropJournalBefore(config.journal, oldest);
}

/** What a backup that was cut off left in the data directory. */
async function removeScratch(dataDir: string): Promise<void> {
  for (const name of await readdir(dataDir)) {
    if (/^\.backup-[A-Za-z0-9]{6}$/.test(name)) await rm(join(dataDir, name), { recursive: true, force: true });
  }
}
