import type { FileName, Material } from "./material.ts";

export type PreflightCheck =
  | "key"
  | "leaf"
  | "dates"
  | "context"
  | "chain"
  | "roots"
  | "names"
  | "crl"
  | "crl-fresh"
  | "crl-number";

/** A set that must not touch the disk. */
export class PreflightError extends Error {
  override readonly name = "PreflightError";
  readonly check: PreflightCheck;

  constructor(check: PreflightCheck, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.check = check;
  }
}

export interface PreflightOptions {
  readonly now: number;
  /** What the probes will ask for: DNS names or IP addresses the leaf must cover. */
  readonly serverNames: readonly string[];
  /** DER of the roots the agent trusts; the chain must end at one of them. */
  readonly trustedRoots: readonly Buffer[];
  /** CRLs are only asked for when `crl.pem` is among these; default: all files. */
  readonly files?: readonly FileName[];
  /** CA id → number of the CRL installed now; a lower one is refused. */
  readonly installedCrlNumbers?: Readonly<Record<string, number>>;
  /** How far a notBefore may lie in the future; default 5 minutes. */
  readonly skewMs?: number;
  /** How long a CRL must still be good for; default 1 minute. */
  readonly crlMarginMs?: number;
}

/**
 * Judges a set in memory, before anything touches the disk.
 * @throws PreflightError
 */
export function preflight(material: Material, options: PreflightOptions): void {
  throw new PreflightError("context", `not written yet ${material.crls.length} ${options.now}`);
}
