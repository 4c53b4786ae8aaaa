/** Ways of altering an audit log in the database of a stopped service. */
import assert from "node:assert/strict";
import { generateKeyPairSync, sign } from "node:crypto";
import { type Checkpoint, checkpointLine, findCheckpoint, signCheckpoint } from "../../server/audit-checkpoint.ts";
import type { FindingKind } from "../../server/audit-verify.ts";
import type { Forger } from "./audit-forger.ts";

/** The log as it was. */
export interface Scene {
  /** A row with every column, somewhere between two checkpoints. */
  readonly row: number;
  /** The last one. */
  readonly last: number;
  /** Checkpoints as they were kept elsewhere, oldest first. */
  readonly elsewhere: readonly Checkpoint[];
}

export interface Forgery {
  readonly name: string;
  readonly alter: (altered: Forger, scene: Scene) => void | Promise<void>;
  /** What is found, and at which row. */
  readonly finds: readonly [FindingKind, (scene: Scene) => number];
  /** Nothing in the database shows it: clean without the checkpoints that were kept elsewhere. */
  readonly onlyElsewhere?: true;
}

const set = (column: string, value: string | number): Forgery => ({
  name: `${column} of a row edited`,
  alter: (altered, { row }) => altered.sql(`UPDATE audit SET ${column} = ? WHERE seq = ?`, value, row),
  finds: ["altered", (scene) => scene.row],
});

/** Later rows make room, or close up. Over a detour: numbers are unique at every step. */
function shift(altered: Forger, from: number, by: 1 | -1): void {
  altered.sql("UPDATE audit SET seq = -seq WHERE seq >= ?", from);
  altered.sql("UPDATE audit SET seq = -seq + ? WHERE seq < 0", by);
}

const insertCopy = `INSERT INTO audit (seq, at, actor_kind, actor, action, target, request_id, address, detail, previous_hash, hash)
  SELECT ?, at, actor_kind, actor, action, target, request_id, address, detail, previous_hash, hash FROM audit WHERE seq = ?`;

export const noCheckpoints = (altered: Forger): void => altered.sql("DELETE FROM audit_checkpoints");

export const forgeries: readonly Forgery[] = [
  set("at", 1),
  set("actor_kind", "system"),
  set("actor", "mallory@operators"),
  set("action", "token.revoked"),
  set("target", "another"),
  set("request_id", "another"),
  set("address", "192.0.2.1"),
  set("detail", '{"token":"another"}'),
  set("detail", '{ "nearly": "the same" }'),
  { ...set("previous_hash", "0".repeat(64)), finds: ["link", (scene) => scene.row] },
  set("hash", "0".repeat(64)),
  {
    name: "detail edited in a way that JSON reads alike",
    alter: (altered, { row }) =>
      altered.sql(`UPDATE audit SET detail = replace(detail, '":', '": ') WHERE seq = ?`, row),
    finds: ["altered", (scene) => scene.row],
  },
  {
    name: "target taken away",
    alter: (altered, { row }) => altered.sql("UPDATE audit SET target = NULL WHERE seq = ?", row),
    finds: ["altered", (scene) => scene.row],
  },
  {
    name: "number of the last row changed",
    alter: (altered, { last }) => altered.sql("UPDATE audit SET seq = ? WHERE seq = ?", last + 5, last),
    finds: ["missing", (scene) => scene.last],
  },
  {
    name: "a row removed",
    alter: (altered, { row }) => altered.sql("DELETE FROM audit WHERE seq = ?", row),
    finds: ["missing", (scene) => scene.row],
  },
  {
    name: "the first row removed",
    alter: (altered) => altered.sql("DELETE FROM audit WHERE seq = 1"),
    finds: ["missing", () => 1],
  },
  {
    name: "several rows removed",
    alter: (altered, { row }) => altered.sql("DELETE FROM audit WHERE seq BETWEEN ? AND ?", row - 3, row),
    finds: ["missing", (scene) => scene.row - 3],
  },
  {
    name: "a row removed and the later ones renumbered",
    alter: (altered, { row }) => {
      altered.sql("DELETE FROM audit WHERE seq = ?", row);
      shift(altered, row + 1, -1);
    },
    finds: ["link", (scene) => scene.row],
  },
  {
    name: "a row put in and the later ones renumbered",
    alter: (altered, { row }) => {
      shift(altered, row, 1);
      altered.sql(insertCopy, row, 3);
    },
    finds: ["link", (scene) => scene.row],
  },
  {
    name: "a row doubled and the later ones renumbered",
    alter: (altered, { row }) => {
      shift(altered, row + 1, 1);
      altered.sql(insertCopy, row + 1, row);
    },
    finds: ["link", (scene) => scene.row + 1],
  },
  {
    name: "two rows swapped",
    alter: (altered, { row }) => {
      altered.sql("UPDATE audit SET seq = -1 WHERE seq = ?", row);
      altered.sql("UPDATE audit SET seq = ? WHERE seq = ?", row, row - 1);
      altered.sql("UPDATE audit SET seq = ? WHERE seq = -1", row - 1);
    },
    finds: ["link", (scene) => scene.row - 1],
  },
  {
    name: "a row edited with a hash of its own",
    alter: async (altered, { row }) => {
      altered.sql("UPDATE audit SET actor = 'mallory' WHERE seq = ?", row);
      const rows = await altered.rows();
      await altered.rehash(row);
      // All but that row as they were.
      for (const { seq, previousHash, hash } of rows.slice(row))
        altered.sql("UPDATE audit SET previous_hash = ?, hash = ? WHERE seq = ?", previousHash, hash, seq);
    },
    finds: ["link", (scene) => scene.row + 1],
  },
  {
    name: "the end cut off behind a checkpoint",
    alter: (altered, { row }) => altered.sql("DELETE FROM audit WHERE seq >= ?", row),
    finds: ["missing", (scene) => scene.row],
  },
  {
    name: "a row edited and everything from there hashed anew, behind a checkpoint",
    alter: async (altered, { row }) => {
      altered.sql("UPDATE audit SET actor = 'mallory' WHERE seq = ?", row);
      await altered.rehash(row);
    },
    finds: ["checkpoint", (scene) => firstMarkFrom(scene.row, scene)],
  },
  {
    name: "the first row replaced and the whole log hashed anew",
    alter: async (altered) => {
      altered.sql("UPDATE audit SET actor = 'mallory' WHERE seq = 1");
      await altered.rehash(1);
    },
    finds: ["checkpoint", (scene) => firstMarkFrom(1, scene)],
  },
  {
    name: "a checkpoint edited",
    alter: (altered) =>
      altered.sql(`UPDATE audit_checkpoints SET line = replace(line, '"at":"20', '"at":"19') WHERE no = 2`),
    finds: ["checkpoint", (scene) => scene.elsewhere[1]?.seq ?? 0],
  },
  {
    name: "a checkpoint's signature taken from another",
    alter: async (altered) => {
      const [first, second] = (await altered.checkpoints()).map((line) => findCheckpoint(line) ?? assert.fail());
      if (first === undefined || second === undefined) assert.fail();
      const forged = checkpointLine({ ...second, signature: first.signature });
      altered.sql("UPDATE audit_checkpoints SET line = ? WHERE no = 2", forged);
    },
    finds: ["checkpoint", (scene) => scene.elsewhere[1]?.seq ?? 0],
  },
  {
    name: "a rewritten log with a checkpoint forged for it under the issuer's name",
    alter: async (altered, { row, elsewhere }) => {
      altered.sql("UPDATE audit SET actor = 'mallory' WHERE seq = ?", row);
      await altered.rehash(row);
      noCheckpoints(altered);
      await forgeCheckpoint(altered, elsewhere[0]?.issuer ?? "");
    },
    finds: ["checkpoint", (scene) => scene.last],
  },
  {
    name: "a rewritten log with a checkpoint of another issuer",
    alter: async (altered, { row }) => {
      altered.sql("UPDATE audit SET actor = 'mallory' WHERE seq = ?", row);
      await altered.rehash(row);
      noCheckpoints(altered);
      await forgeCheckpoint(altered, "0123456789abcdef");
    },
    finds: ["checkpoint", (scene) => scene.last],
  },
  {
    name: "the end cut off, and the checkpoints that would tell of it",
    alter: (altered, { row }) => {
      altered.sql("DELETE FROM audit WHERE seq >= ?", row);
      altered.sql("DELETE FROM audit_checkpoints WHERE seq >= ?", row);
    },
    finds: ["missing", (scene) => scene.row],
    onlyElsewhere: true,
  },
  {
    name: "everything from a row on hashed anew, and the checkpoints that would tell of it gone",
    alter: async (altered, { row }) => {
      altered.sql("UPDATE audit SET actor = 'mallory' WHERE seq = ?", row);
      await altered.rehash(row);
      altered.sql("DELETE FROM audit_checkpoints WHERE seq >= ?", row);
    },
    finds: ["checkpoint", (scene) => firstMarkFrom(scene.row, scene)],
    onlyElsewhere: true,
  },
  {
    name: "the whole log written anew, without checkpoints",
    alter: async (altered) => {
      altered.sql("UPDATE audit SET actor = 'mallory' WHERE seq = 1");
      await altered.rehash(1);
      noCheckpoints(altered);
    },
    finds: ["checkpoint", (scene) => firstMarkFrom(1, scene)],
    onlyElsewhere: true,
  },
  {
    name: "a checkpoint removed from between others",
    alter: (altered) => altered.sql("DELETE FROM audit_checkpoints WHERE no = 2"),
    finds: ["checkpoint", (scene) => scene.elsewhere[1]?.seq ?? 0],
    onlyElsewhere: true,
  },
];

export function firstMarkFrom(seq: number, { elsewhere }: Pick<Scene, "elsewhere">): number {
  return elsewhere.find((checkpoint) => checkpoint.seq >= seq)?.seq ?? assert.fail();
}

/** As good as it can be made without the issuer's key. */
export async function forgeCheckpoint(altered: Forger, id: string): Promise<void> {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const end = (await altered.rows()).at(-1) ?? assert.fail();
  const forged = signCheckpoint(end, Date.now(), { id, sign: (bytes) => sign("sha256", bytes, privateKey) });
  altered.sql("INSERT INTO audit_checkpoints (seq, at, line) VALUES (?, 0, ?)", end.seq, checkpointLine(forged));
}
