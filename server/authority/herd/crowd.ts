/**
 * Whether more knock than are let in: connections that wait in the kernel to be accepted. Nobody can be asked how many they are, but an
 * event loop accepts one connection a round (libuv since 1.45), so a round without one says that nobody waits.
 */
export interface Crowd {
  /** Each round of so many in a row let somebody in. */
  isHere(): boolean;
  /** A round of the event loop is over. */
  sawRound(letSomebodyIn: boolean): void;
  /** Called each time that a crowd is over. */
  whenOver(listener: () => void): void;
}

/** About 50 ms of them: what comes and goes within the blink of an eye is not worth holding anything back for. */
const roundsOfCrowd = 32;

export function createCrowd(): Crowd {
  const listeners: (() => void)[] = [];
  let rounds = 0;
  return {
    isHere: () => rounds >= roundsOfCrowd,
    sawRound(letSomebodyIn) {
      const wasHere = rounds >= roundsOfCrowd;
      rounds = letSomebodyIn ? rounds + 1 : 0;
      if (wasHere && !letSomebodyIn) for (const listener of listeners) listener();
    },
    whenOver: (listener) => void listeners.push(listener),
  };
}
