/** What happened to a lineage, in order: who it was issued to, from where each leaf was used, when two holders were seen, what was decided. */
import type { AuditRow } from "../../store/audit.ts";
import type { CertificateRow } from "../../store/certificates.ts";
import type { LeafUse } from "../../store/lineages.ts";
import type { Authority } from "../authority.ts";

export interface Happening {
  readonly at: number;
  /** As the audit log names it; and `certificate.superseded` and `certificate.last-used`, which are no acts. */
  readonly event: string;
  readonly serial: string | null;
  readonly generation: number | null;
  readonly address: string | null;
  readonly actor: string | null;
  /** SPKI fingerprint: of the leaf that was issued, or that asked in a conflict. */
  readonly key: string | null;
  readonly note: string | null;
}

/** The newest leaves of a lineage tell of a conflict; older ones have nothing to do with it. */
const maxGenerations = 50;
const rowsPerTarget = 100;

/** @param leaves of the lineage, oldest generation first */
export async function lineageStory(
  { store }: Authority,
  lineage: string,
  leaves: readonly CertificateRow[],
): Promise<readonly Happening[]> {
  const newest = leaves.slice(-maxGenerations);
  const generations = new Map(leaves.map(({ serial, generation }) => [serial, generation]));
  const rows: AuditRow[] = [];
  for (const target of [lineage, ...newest.map(({ serial }) => serial)])
    rows.push(...(await store.listAudit({ target, limit: rowsPerTarget })).items);
  const uses = (await store.listLeafUses(lineage)).filter(({ serial }) =>
    newest.some((leaf) => leaf.serial === serial),
  );
  return [
    ...rows.filter(({ action }) => told.has(action)).map((row) => fromAudit(row, generations)),
    ...newest.flatMap(superseded),
    ...uses.flatMap(lastUsed),
  ].toSorted((a, b) => a.at - b.at);
}

const told: ReadonlySet<string> = new Set([
  "certificate.issued",
  "certificate.first-used",
  "certificate.revoked",
  "certificate.hold-released",
  "lineage.stale-use",
  "lineage.conflict",
  "lineage.released",
  "lineage.revoked",
]);

function fromAudit(row: AuditRow, generations: ReadonlyMap<string, number>): Happening {
  const { at, action, actor, address = null, target = null, detail = {} } = row;
  const text = (name: string): string | null => (typeof detail[name] === "string" ? detail[name] : null);
  const serial = action.startsWith("lineage.") ? text("serial") : target;
  return {
    at,
    event: action,
    serial,
    generation: serial === null ? null : (generations.get(serial) ?? null),
    address,
    actor,
    key: text("key"),
    note: text("reason"),
  };
}

const noFacts = { address: null, actor: null, key: null, note: null };

function superseded({ serial, generation, supersededAt }: CertificateRow): Happening[] {
  if (supersededAt === null) return [];
  return [{ at: supersededAt, event: "certificate.superseded", serial, generation, ...noFacts }];
}

function lastUsed({ serial, generation, firstAt, lastAt, lastAddress }: LeafUse): Happening[] {
  if (lastAt === firstAt) return [];
  return [{ at: lastAt, event: "certificate.last-used", serial, generation, ...noFacts, address: lastAddress }];
}
