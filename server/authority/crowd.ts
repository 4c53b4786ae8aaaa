/** Connections that wait to say who they are, as the listener sees them. */
export interface Crowd {
  /** How many wait for their handshake now. */
  waiting: number;
}

/** Fewer are known within the blink of an eye: not worth holding anything back for. */
const least = 64;

export function isCrowded({ waiting }: Crowd): boolean {
  return waiting >= least;
}
