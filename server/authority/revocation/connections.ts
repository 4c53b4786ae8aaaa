/** Who is connected with which leaf, so that the connections of a leaf that is refused from now on end with it. No sockets in here: their keeper says how they end. */

export interface Connections {
  /** A connection made with this leaf. Returns what the keeper calls when it has gone. */
  keep(serial: string, end: () => void): () => void;
  /** Ends what was made with any of these leaves: at once where nothing is being answered. */
  end(serials: Iterable<string>): void;
  readonly count: number;
}

export function createConnections(): Connections {
  const bySerial = new Map<string, Set<() => void>>();
  let count = 0;
  return {
    keep(serial, end) {
      const ends = bySerial.get(serial) ?? new Set();
      bySerial.set(serial, ends);
      ends.add(end);
      count += 1;
      return () => {
        if (!ends.delete(end)) return;
        count -= 1;
        if (ends.size === 0 && bySerial.get(serial) === ends) bySerial.delete(serial);
      };
    },
    end(serials) {
      for (const serial of serials) for (const end of bySerial.get(serial) ?? []) end();
    },
    get count() {
      return count;
    },
  };
}
