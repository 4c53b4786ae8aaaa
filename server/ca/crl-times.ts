/**
 * thisUpdate of CRLs. It lies a little before the moment the list was made: a verifier whose clock runs a few seconds behind refuses
 * everybody by a CRL from its future (RFC 5280 §6.3.3 (b); OpenSSL: "CRL is not yet valid"), and would go on admitting the revoked one
 * by waiting until it may use it.
 */

const second = 1000;
const mostBackdate = 60 * second;
/** Of the CRL's life, where CRLs live for seconds. */
const leastShare = 20;

/** How far thisUpdate lies before the moment of making, at most. Milliseconds. */
export function crlBackdate(lifetime: number): number {
  return Math.min(mostBackdate, Math.floor(lifetime / leastShare));
}

/**
 * Backdated; but later than the previous CRL's, so that the two can be told apart by their time as well as by their number; and never
 * after `now`. A previous one that lies in the future (the clock was put right) does not count.
 * @param previous thisUpdate of the issuer's newest CRL, or null
 * @returns milliseconds since the epoch, whole seconds
 */
export function thisUpdateOf(now: number, previous: number | null, lifetime: number): number {
  const latest = wholeSecond(now);
  const backdated = wholeSecond(now - crlBackdate(lifetime));
  if (previous === null || previous > now) return backdated;
  return Math.min(latest, Math.max(backdated, previous + second));
}

function wholeSecond(at: number): number {
  return Math.floor(at / second) * second;
}
