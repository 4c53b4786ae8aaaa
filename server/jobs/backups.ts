import type { Authority } from "../authority/authority.ts";
import { systemCaller } from "../authority/authority.ts";
import { createBackup } from "../authority/backups.ts";
import { lastDue, parseCron } from "./cron-time.ts";
import type { Job } from "./schedule.ts";

/** After a failure: a disk that is full is full for a while. */
const againAfter = 15 * 60_000;

/**
 * Makes a backup when the schedule says so, and when it said so while nobody was there: the host slept, the service was down. Of
 * several missed ones one is made up. An authority that never had one waits for its first time.
 */
export function backupJob(authority: Authority): Job {
  const { config, clock, backups } = authority;
  const cron = config.backup.schedule === null ? null : parseCron(config.backup.schedule);
  // The first bundle is as old as the authority; a restored one begins anew with the restore.
  const foundedAt = authority.issuers.bundle.createdAt;
  let failedAt: number | null = null;
  return {
    name: "backup",
    async run() {
      if (cron === null) return;
      const now = clock.now();
      const due = lastDue(cron, now);
      if (due === null || due <= (backups.lastSuccessAt() ?? foundedAt)) return;
      // A clock that stepped back must not keep it from being tried.
      if (failedAt !== null && now >= failedAt && now - failedAt < againAfter) return;
      try {
        await createBackup(authority, systemCaller("schedule"));
        failedAt = null;
      } catch {
        // It is in the log already, and the metric stays where it is.
        failedAt = now;
      }
    },
  };
}
