export interface RenewalWindowQuestion {
  /** Milliseconds since the epoch. */
  readonly issuedAt: number;
  readonly notAfter: number;
  /** Fraction of life after which renewal begins. */
  readonly at?: number;
  /** Fraction of life over which the fleet spreads. */
  readonly spread?: number;
}

/** The last part of life that no window reaches into: room for what goes wrong. */
const reserve = 0.05;

/**
 * When a leaf wants to be renewed. Life counts from issuance, not from the backdated notBefore: of a leaf that lives for
 * seconds, two thirds would else lie in the past.
 * @returns milliseconds since the epoch; issuedAt ≤ start < end < notAfter for every life of at least 40 ms
 */
export function renewalWindow({ issuedAt, notAfter, at = 2 / 3, spread = 0.1 }: RenewalWindowQuestion): {
  readonly start: number;
  readonly end: number;
} {
  const life = Math.max(0, notAfter - issuedAt);
  const latest = notAfter - Math.ceil(life * reserve);
  const start = Math.min(Math.floor(issuedAt + life * clamp(at)), latest - 1);
  const end = Math.min(Math.max(start + 1, Math.floor(start + life * clamp(spread))), latest);
  return { start, end };
}

function clamp(fraction: number): number {
  return Math.min(1, Math.max(0, fraction));
}
