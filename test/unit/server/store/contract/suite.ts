import assert from "node:assert/strict";
import { AppError, type ProblemCode } from "@newleaf/shared/problems";
import { type Store, StaleBasis } from "../../../../../server/store/store.ts";

/** A new, empty store of the adapter under test; disposing of it removes whatever it stood on. */
export type OpenStore = () => Promise<Store>;

export const refused =
  (code: ProblemCode) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof AppError, `expected AppError ${code}, got ${String(error)}`);
    assert.equal(error.code, code);
    return true;
  };

export const stale = (error: unknown): boolean => {
  assert.ok(error instanceof StaleBasis, `expected StaleBasis, got ${String(error)}`);
  return true;
};

/** Everything the log says was done, oldest first. */
export async function actions(store: Store): Promise<readonly string[]> {
  return (await store.readAuditChain(0, 10_000)).map((row) => row.action);
}
