/** Locked lineages: seen, told, and ended by an operator. */
import { AppError } from "@newleaf/shared/problems";
import type { PresentedLeaf } from "../../store/certificates.ts";
import type { LeafUse, LineageRow } from "../../store/lineages.ts";
import { auditEntry, type Authority, type Caller } from "../authority.ts";
import { isoTime } from "../issue.ts";
import { requireTouch } from "../permissions.ts";
import { networkOf } from "@newleaf/shared/network";

/** Two holders of one lineage were seen: lock it and say who, when and from where. Locks once; further sights are audited once an hour. */
export async function lockForConflict(
  authority: Authority,
  caller: Caller,
  leaf: PresentedLeaf,
  seen: { readonly reason: string; readonly key?: string },
): Promise<void> {
  if (leaf.lineage === null) return;
  // What is locked or ended is not locked again: the holder of a stale leaf may knock as often as he likes.
  const isKnown = leaf.lineageState !== "active";
  const sight = `conflict ${leaf.serial} ${networkOf(caller.address)}`;
  if (isKnown && !authority.sightings.isFirst(sight, caller)) return;
  const at = authority.clock.now();
  const evidence = {
    reason: seen.reason,
    serial: leaf.serial,
    generation: leaf.generation,
    state: leaf.state,
    address: caller.address,
    at: isoTime(at),
    ...(seen.key === undefined ? {} : { key: seen.key }),
    otherHolder: await otherHolder(authority, leaf),
  };
  const entry = auditEntry(caller, at, "lineage.conflict", leaf.lineage, { identity: leaf.identity, ...evidence });
  const locked = await authority.store.lockLineage(leaf.lineage, evidence, at, [entry]);
  authority.events.lineageConflict(leaf, evidence, locked);
}

/** Where the lineage's newest used leaf was used, which somebody else holds; and the presented one itself, while it was current. */
async function otherHolder({ store }: Authority, leaf: PresentedLeaf): Promise<Readonly<Record<string, unknown>>> {
  const uses = await store.listLeafUses(leaf.lineage ?? "");
  const before = uses.find(({ serial }) => serial === leaf.serial);
  const newest = uses.at(-1);
  return {
    ...(newest === undefined || newest === before ? {} : describeUse(newest)),
    ...(before === undefined ? {} : { presentedLeafBefore: describeUse(before) }),
  };
}

function describeUse({ serial, generation, firstAt, firstAddress, lastAt, lastAddress }: LeafUse) {
  return {
    serial,
    generation,
    firstUsed: { at: isoTime(firstAt), address: firstAddress },
    lastUsed: { at: isoTime(lastAt), address: lastAddress },
  };
}

/**
 * An operator decided that the current generation is the rightful holder's.
 * @throws AppError not-found, conflict (not locked), not-permitted
 */
export async function releaseLineage(authority: Authority, caller: Caller, id: string): Promise<LineageRow> {
  const at = authority.clock.now();
  caller.target = id;
  const lineage = await authority.store.findLineage(id);
  if (lineage === null) throw new AppError("not-found", `There is no lineage ${id}`);
  await requireTouch(authority, caller, lineage.identity);
  await authority.store.releaseLineage(id, at, [
    auditEntry(caller, at, "lineage.released", id, { identity: lineage.identity }),
  ]);
  authority.events.acted("lineage.released", caller, { lineage: id, identity: lineage.identity });
  authority.feed.announceTo(lineage.identity);
  return (await authority.store.findLineage(id)) ?? lineage;
}
