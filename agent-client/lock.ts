/** One agent per state directory: `run`, `renew`, `enroll` and `key` take this lock; whoever finds it taken learns who holds it. */
import { LockTakenError, processLockHolder, takeProcessLock } from "@newleaf/shared/process-lock";

const name = "agent";

export class LockedError extends Error {
  override readonly name = "LockedError";
}

/**
 * @param holder what this process is, for the next one that comes
 * @throws LockedError naming the holder, the system error
 */
export async function takeLock(state: string, holder: string): Promise<AsyncDisposable> {
  try {
    return await takeProcessLock(state, name, holder);
  } catch (error) {
    if (!(error instanceof LockTakenError)) throw error;
    throw new LockedError(`${state} is in use by ${error.holder}; stop it first, or let it do the work`);
  }
}

/** Who holds the lock of a state directory; null when nobody does. */
export function lockHolder(state: string): Promise<string | null> {
  return processLockHolder(state, name);
}
