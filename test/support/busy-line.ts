/** Makes a service's line of renewals as full as a herd would: everything in work, and whoever waits more urgent than any real host. */
import { type Admission, renewalLimits } from "../../server/authority/herd/admission.ts";

export interface BusyLine extends Disposable {
  /** Lets everything that is in work end; nobody waits any more. */
  end(): void;
}

/** `waiting`: how many wait, each with a second to live. */
export function busyLine(line: Admission, waiting: number): BusyLine {
  const gone = new AbortController();
  const { promise, resolve } = Promise.withResolvers<void>();
  const applicant = (index: number) => ({ who: `busy ${index}`, left: 1_000, due: true });
  for (let index = 0; index < renewalLimits.maxInWork + waiting; index++)
    line.inTurn(applicant(index), gone.signal, () => promise).catch(() => undefined);
  const end = (): void => {
    gone.abort();
    resolve();
  };
  return { end, [Symbol.dispose]: end };
}
