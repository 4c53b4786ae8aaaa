/** A restore that is killed. argv: JSON of its options. Says `ready` when everything is loaded, `done` when the restore has ended. */
import { writeSync } from "node:fs";
import { restore, type RestoreOptions } from "../../server/backup/restore.ts";

const options = JSON.parse(process.argv[2] ?? "{}") as Omit<RestoreOptions, "configuredJournal">;
writeSync(1, "ready\n");
await restore({ ...options, configuredJournal: () => null });
writeSync(1, "done\n");
