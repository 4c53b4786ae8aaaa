import { InstallError, type Target } from "./target.ts";

/** What is on disk through `current`, as a proxy that opens the files now would find it. */
export interface Installed {
  readonly version: string;
  /** `sha256:…` of the leaf. */
  readonly fingerprint: string;
  readonly notAfter: number;
  /** False when key and leaf on disk are not a pair; true also when `files` asks for no key. */
  readonly keyMatches: boolean;
  readonly bundleVersion: number;
  /** CA id → number of its CRL. */
  readonly crlNumbers: Readonly<Record<string, number>>;
  /** Seen served (see `confirm`). */
  readonly confirmed: boolean;
  readonly quarantined: boolean;
  /** Nothing in `problems`: every file asked for is there, unaltered, with the right mode and owner. */
  readonly complete: boolean;
  readonly problems: readonly string[];
}

/** Null when nothing is installed. Changes nothing. @throws InstallError when the directory cannot be read */
export async function readInstalled(target: Target): Promise<Installed | null> {
  throw new InstallError(`not written yet ${target.directory}`);
}
