/** Backups of a test's service, and the service that is put back from them. */
import { mkdtempSync } from "node:fs";
import { join } from "node:path";
import { restore, type RestoreOptions, type RestoreReport } from "../../server/backup/restore.ts";
import { operatorId, startService, type TestService } from "./service.ts";

/** Its directory. */
export async function backUp(service: TestService, body: Readonly<Record<string, unknown>> = {}): Promise<string> {
  return (await service.admin<{ path: string }>("POST", "/v1/backups", body)).path;
}

/** Restores with the keys of the service that was, unless said otherwise; there is no journal unless given. */
export function restoreFrom(
  old: Pick<TestService, "dir" | "dataDir" | "clock">,
  directory: string,
  changes: Partial<RestoreOptions> = {},
): Promise<RestoreReport> {
  return restore({
    directory,
    dataDir: join(mkdtempSync(join(old.dir, "restored-")), "data"),
    journal: null,
    isJournalLost: (changes.journal ?? null) === null,
    crls: [],
    // An encrypted one brings its own.
    ...(changes.identityFile === undefined ? { keysDir: join(old.dataDir, "issuers") } : {}),
    now: old.clock.now(),
    configuredJournal: () => null,
    ...changes,
  });
}

/** Starts the service on what was restored; its operator is the one of the service that was. */
export function startRestored(
  old: Pick<TestService, "dataDir">,
  { dataDir }: Pick<RestoreReport, "dataDir">,
  env: Readonly<Record<string, string>> = {},
): Promise<TestService> {
  return startService(env, { on: { dataDir, operator: join(old.dataDir, "operators", operatorId) } });
}
