/** How many are served a second, measured only while somebody waits: an idle service says nothing of what it could do. Pure. */

export interface DrainMeter {
  /** Somebody waits now, and nobody did before. */
  busy(now: number): void;
  /** Nobody waits any more. */
  idle(now: number): void;
  /** One was served. */
  finished(now: number): void;
  /** Served a second; never 0. */
  rate(now: number): number;
}

/** Until something was measured: less than any machine does, so that nobody is told to come too soon. */
const assumedRate = 100;
const lowestRate = 0.1;
const sampleMs = 500;
const weightOfNewest = 0.3;

export function drainMeter(): DrainMeter {
  let measured: number | null = null;
  let served = 0;
  let busyMs = 0;
  /** Since when this stretch of time is being measured; null while nobody waits. */
  let mark: number | null = null;

  const advance = (now: number): void => {
    if (mark === null) return;
    busyMs += Math.max(0, now - mark);
    mark = now;
    if (busyMs < sampleMs) return;
    const sample = (served / busyMs) * 1000;
    measured = measured === null ? sample : measured + (sample - measured) * weightOfNewest;
    served = 0;
    busyMs = 0;
  };

  return {
    busy(now) {
      mark ??= now;
    },
    idle(now) {
      advance(now);
      mark = null;
    },
    finished(now) {
      if (mark === null) return;
      served += 1;
      advance(now);
    },
    rate(now) {
      const known = measured ?? assumedRate;
      // What hangs is measured by nobody finishing.
      const silent = mark === null ? 0 : busyMs + Math.max(0, now - mark);
      const inSilence = silent > 2 * sampleMs ? ((served + 1) / silent) * 1000 : known;
      return Math.max(lowestRate, Math.min(known, inSilence));
    },
  };
}
