/** A database with a journal beside it, opened and closed as often as a test likes. */
import { copyFileSync, cpSync, existsSync } from "node:fs";
import { join } from "node:path";
import type { JournalEvent } from "../../../../server/store/journal.ts";
import { journalStart } from "../../../../server/store/journal/line.ts";
import { readJournal, readTail } from "../../../../server/store/journal/segments.ts";
import { openSqliteStore } from "../../../../server/store/sqlite/store.ts";
import type { Store } from "../../../../server/store/store.ts";
import * as f from "./fixture.ts";

export interface Home extends AsyncDisposable {
  readonly path: string;
  readonly journal: string;
  readonly events: JournalEvent[];
  /** Opens the store, with the journal unless said otherwise, runs and closes it. */
  readonly run: <T>(act: (store: Store) => Promise<T>, withJournal?: boolean) => Promise<T>;
  /** Copies of database and journal as they are. */
  readonly keep: (name: string) => { readonly database: string; readonly journal: string };
}

export async function newHome(): Promise<Home> {
  const home = await f.scratch();
  const journal = join(home.directory, "journal");
  const events: JournalEvent[] = [];
  const run: Home["run"] = async (act, withJournal = true) => {
    await using store = await openSqliteStore({
      path: home.path,
      create: true,
      journal: withJournal ? journal : null,
      onJournal: (event) => events.push(event),
    });
    return await act(store);
  };
  return {
    path: home.path,
    journal,
    events,
    run,
    keep(name) {
      const kept = { database: join(home.directory, `${name}.db`), journal: join(home.directory, `${name}.journal`) };
      copyFileSync(home.path, kept.database);
      if (existsSync(journal)) cpSync(journal, kept.journal, { recursive: true });
      return kept;
    },
    [Symbol.asyncDispose]: () => home[Symbol.asyncDispose](),
  };
}

export const note = (store: Store, what: string): Promise<void> => store.recordAudit([f.audit(what)]);
export const kinds = (events: readonly JournalEvent[]): string[] => events.map((event) => event.kind);
/** The names of the commands in each line. */
export const linesOf = (home: Home): string[][] => {
  const from = { journal: readTail(home.journal)?.link.journal ?? "", n: 0, hash: journalStart };
  return [...readJournal(home.journal, from)].map(({ line }) => line.commands.map(([name]) => name));
};
