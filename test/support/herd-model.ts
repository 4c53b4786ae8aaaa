/**
 * A herd on a virtual clock: the service's own line and the agent's own back-off, around a model of one processor that does handshakes and
 * renewals in turn. What a real run on this machine would take hours for takes seconds, and every wait is seen.
 */
import { noFailures, retryAt } from "../../agent-client/decide/backoff.ts";
import { admissionQueue, type AdmissionLimits, type Applicant } from "../../server/authority/herd/admission-queue.ts";

export interface HerdClient extends Applicant {
  /** When it first asks, milliseconds from the beginning. `left` is counted from then. */
  readonly arrives: number;
}

export interface HerdModel {
  readonly clients: readonly HerdClient[];
  readonly limits: AdmissionLimits;
  /** Processor time of a handshake with the gate's answer, and of a renewal after it. */
  readonly handshakeMs: number;
  readonly renewMs: number;
  /** Connections that wait to be let in; more find no room. */
  readonly maxConnections: number;
  readonly random: () => number;
  /** When a client that was sent away comes back, after milliseconds; without it as the agent does. Null: as the agent does. */
  readonly comesBackAfter?: (client: HerdClient, retryAfterSeconds: number) => number | null;
}

export interface Served {
  readonly client: HerdClient;
  readonly at: number;
  readonly attempts: number;
  /** From the moment it last entered the line. */
  readonly inLineMs: number;
}

export interface HerdOutcome {
  readonly served: readonly Served[];
  /** Expired before they were served. */
  readonly lost: readonly HerdClient[];
  readonly longestLine: number;
  readonly turnedAway: number;
  readonly refusedConnections: number;
  /** Begun while somebody waited who had less left, as pairs: none, if the line keeps its order. */
  readonly outOfOrder: number;
}

/** As agents do after a failed request (agent-client/context.ts). */
const backoff = { baseMs: 30_000, capMs: 3_600_000 };

/** As many rounds with somebody at the door as the service takes for a crowd. */
const crowd = 32;
/** A connection that finds no room in the kernel is tried again by the client's kernel, until its program gives up. */
const synRetries = [1_000, 2_000, 4_000, 8_000];

interface Visit extends Applicant {
  readonly client: HerdClient;
  readonly enteredAt: number;
}

interface Visitor {
  attempts: number;
  failures: number;
  /** Of this attempt. */
  knocks: number;
}

export function runHerd(model: HerdModel): HerdOutcome {
  const queue = admissionQueue<Visit>(model.limits, model.random, () => handshakes.length > crowd);
  const arrivals = timeline<HerdClient>();
  const visitors = new Map<string, Visitor>();
  const handshakes: HerdClient[] = [];
  const work: Visit[] = [];
  const line = new Set<Visit>();
  const served: Served[] = [];
  const lost: HerdClient[] = [];
  const counts = { longestLine: 0, turnedAway: 0, refusedConnections: 0, outOfOrder: 0 };
  let now = 0;
  let turn = 0;

  for (const client of model.clients) {
    arrivals.add(client.arrives, client);
    visitors.set(client.who, { attempts: 0, failures: noFailures.failures, knocks: 0 });
  }
  const visitorOf = (client: HerdClient): Visitor =>
    visitors.get(client.who) ?? { attempts: 0, failures: 0, knocks: 0 };
  const deadlineOf = (client: HerdClient): number => client.arrives + client.left;
  const again = (client: HerdClient, retryAfterSeconds?: number): void => {
    const visitor = visitorOf(client);
    visitor.failures += 1;
    const deadline = deadlineOf(client);
    const asked = { ...backoff, now, failures: visitor.failures, retryAfterSeconds, deadline, random: model.random() };
    const own = retryAfterSeconds === undefined ? null : model.comesBackAfter?.(client, retryAfterSeconds);
    arrivals.add(own == null ? retryAt(asked) : now + own, client);
  };
  const knock = (client: HerdClient): void => {
    const visitor = visitorOf(client);
    if (handshakes.length < model.maxConnections) {
      visitor.knocks = 0;
      handshakes.push(client);
      return;
    }
    counts.refusedConnections += 1;
    const retry = synRetries[visitor.knocks];
    visitor.knocks = retry === undefined ? 0 : visitor.knocks + 1;
    if (retry === undefined) again(client);
    else arrivals.add(now + retry, client);
  };
  const begin = (visit: Visit): void => {
    line.delete(visit);
    // One that is not due, or has more left, must not pass one that waits. Looked at for every hundredth: it is a walk through the line.
    if (served.length % 100 === 0 && [...line].some((other) => comesBefore(other, visit))) counts.outOfOrder += 1;
    work.push(visit);
  };
  const enter = (client: HerdClient): void => {
    const visitor = visitorOf(client);
    visitor.attempts += 1;
    const left = deadlineOf(client) - now;
    if (left <= 0) return void lost.push(client);
    const visit = { who: client.who, due: client.due, left, client, enteredAt: now };
    const { begins, dismissed } = queue.enter(visit, now);
    line.add(visit);
    for (const next of begins) begin(next);
    if (dismissed === null) return;
    turnAway(dismissed.ticket, dismissed.retryAfterSeconds);
  };
  const turnAway = (visit: Visit, retryAfterSeconds: number): void => {
    line.delete(visit);
    counts.turnedAway += 1;
    again(visit.client, retryAfterSeconds);
  };
  const finish = (visit: Visit): void => {
    const { client } = visit;
    served.push({ client, at: now, attempts: visitorOf(client).attempts, inLineMs: now - visit.enteredAt });
    for (const next of queue.finish(now)) begin(next);
  };

  for (;;) {
    for (let client = arrivals.take(now); client !== null; client = arrivals.take(now)) {
      knock(client);
    }
    counts.longestLine = Math.max(counts.longestLine, queue.waiting());
    for (const late of queue.overdue(now)) turnAway(late.ticket, late.retryAfterSeconds);
    for (const visit of queue.proceed(now)) begin(visit);
    // An event loop takes from both in turn.
    turn = 1 - turn;
    const takesWork = work.length > 0 && (turn === 0 || handshakes.length === 0);
    const visit = takesWork ? work.shift() : undefined;
    const client = takesWork ? undefined : handshakes.shift();
    if (visit !== undefined) {
      now += model.renewMs;
      finish(visit);
    } else if (client !== undefined) {
      now += model.handshakeMs;
      enter(client);
    } else {
      const next = arrivals.next();
      if (next === null) return { served, lost, ...counts };
      now = Math.max(now, next);
    }
  }
}

function comesBefore(a: Visit, b: Visit): boolean {
  if (a.due !== b.due) return a.due;
  return a.enteredAt + a.left < b.enteredAt + b.left;
}

/** What happens when: a binary heap. */
function timeline<T>() {
  const heap: { readonly at: number; readonly item: T }[] = [];
  const at = (index: number): number => heap[index]?.at ?? Number.POSITIVE_INFINITY;
  const swap = (a: number, b: number): void => {
    const [x, y] = [heap[a], heap[b]];
    if (x === undefined || y === undefined) return;
    heap[a] = y;
    heap[b] = x;
  };
  return {
    add(when: number, item: T): void {
      heap.push({ at: when, item });
      for (let child = heap.length - 1; child > 0;) {
        const parent = (child - 1) >> 1;
        if (at(parent) <= at(child)) return;
        swap(parent, child);
        child = parent;
      }
    },
    next: (): number | null => heap[0]?.at ?? null,
    /** The earliest, if it is due by `now`. */
    take(now: number): T | null {
      const [first] = heap;
      if (first === undefined || first.at > now) return null;
      const last = heap.pop();
      if (last !== undefined && heap.length > 0) {
        heap[0] = last;
        for (let parent = 0; ;) {
          const left = 2 * parent + 1;
          const child = at(left + 1) < at(left) ? left + 1 : left;
          if (at(child) >= at(parent)) break;
          swap(parent, child);
          parent = child;
        }
      }
      return first.item;
    },
  };
}
