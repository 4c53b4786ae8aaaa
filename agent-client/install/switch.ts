import { InstallError, type Target } from "./target.ts";

/** Points `current` at a staged version, and `previous` at the one before. May be repeated. @throws InstallError */
export async function switchTo(target: Target, version: string): Promise<void> {
  throw new InstallError(`not written yet ${target.directory} ${version}`);
}

/** Swaps `current` back to `previous`; again: nothing more. Null when there is no complete, unquarantined version to go back to. */
export async function rollback(target: Target): Promise<string | null> {
  throw new InstallError(`not written yet ${target.directory}`);
}

/** Notes that `version` was seen served: from then on it is what `previous` may point at. May be repeated. */
export async function confirm(target: Target, version: string): Promise<void> {
  throw new InstallError(`not written yet ${target.directory} ${version}`);
}

/** Marks a version so that it is never switched to again. May be repeated. */
export async function quarantine(target: Target, version: string, reason: string): Promise<void> {
  throw new InstallError(`not written yet ${target.directory} ${version} ${reason}`);
}

/** Fingerprints of leaves whose version is quarantined. */
export async function quarantined(target: Target): Promise<ReadonlySet<string>> {
  throw new InstallError(`not written yet ${target.directory}`);
}

/** Deletes what is neither in force nor needed to go back: older versions beyond `keep`, and whatever a crash left half made. */
export async function prune(target: Target, keep = 3): Promise<readonly string[]> {
  throw new InstallError(`not written yet ${target.directory} ${keep}`);
}
