/**
 * A request that is sent twice is acted on once: who lost the answer sends it again with the same Idempotency-Key. That it begins is
 * durable before it is acted on, so that a crash between the two is seen and told, never guessed about.
 */
import { createCipheriv, createDecipheriv, createHash, hkdfSync } from "node:crypto";
import { gunzipSync, gzipSync } from "node:zlib";
import { AppError, isProblemCode, type ProblemCode, problems } from "@newleaf/shared/problems";
import type { IdempotentRequest, KnownRequest } from "../store/idempotency.ts";
import type { Store } from "../store/store.ts";
import type { Authority, Caller } from "./authority.ts";

const keptFor = 86_400_000;
/** Of one operator, within a day. */
const maxKept = { requests: 10_000, bytes: 64 * 1024 * 1024 };
const dropEvery = 600_000;
const cipher = "aes-256-gcm";
const ivBytes = 12;
const tagBytes = 16;

/** What makes two requests the same. */
export interface RequestMark {
  /** As the operator chose it; a secret as far as answers hold one. */
  readonly key: string;
  readonly method: string;
  readonly path: string;
  /** SHA-256 of the body, hex. */
  readonly bodyHash: string;
}

export interface KeptAnswer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Absent: no body. */
  readonly body?: unknown;
}

interface KeptRefusal {
  readonly refused: ProblemCode;
  readonly message: string;
}

/**
 * Acts, unless a request with this key was acted on within a day: then its answer, or its refusal, again.
 * @param onReplay called before an answer or refusal of then is given again
 * @throws AppError conflict (another request had this key; it is being worked on; how it ended is not known), rate-limited (too many
 *   kept), and what `act` refuses
 */
export async function once(
  authority: Authority,
  caller: Caller,
  mark: RequestMark,
  act: () => Promise<KeptAnswer>,
  onReplay: () => void,
): Promise<KeptAnswer> {
  const request = requestOf(authority, caller, mark);
  const running = runningIn(authority.store);
  if (running.has(request.keyHash)) {
    throw new AppError("conflict", "A request with this Idempotency-Key is being worked on; ask again in a moment", {
      retryAfterSeconds: 1,
    });
  }
  running.add(request.keyHash);
  try {
    const known = await authority.store.beginIdempotent(request, maxKept);
    return known === null ? await actAndKeep(authority, request, mark, act) : replay(known, request, mark, onReplay);
  } finally {
    running.delete(request.keyHash);
  }
}

/** The job that forgets what was kept for a day; does nothing most of the times it is called. */
export function createAnswerCleanup({ store, clock }: Pick<Authority, "store" | "clock">): () => Promise<void> {
  let next = 0;
  return async () => {
    const now = clock.now();
    if (now < next) return;
    await store.dropIdempotent(now);
    next = now + dropEvery;
  };
}

async function actAndKeep(
  authority: Authority,
  request: IdempotentRequest,
  mark: RequestMark,
  act: () => Promise<KeptAnswer>,
): Promise<KeptAnswer> {
  let answer: KeptAnswer;
  try {
    answer = await act();
  } catch (error) {
    // A fault of ours may have come after a write: it stays begun, and a repeat is told to look.
    if (!(error instanceof AppError) || error.code === "internal") throw error;
    const { code, message, retryAfterSeconds } = error;
    const mayPass = retryAfterSeconds !== undefined || problems[code].retry === "later";
    await afterwards(authority, request, () =>
      mayPass
        ? authority.store.abandonIdempotent(request.keyHash)
        : keep(authority, request, mark, { refused: code, message }),
    );
    throw error;
  }
  await afterwards(authority, request, () => keep(authority, request, mark, answer));
  return answer;
}

/** What was done is done: that its answer could not be kept is no reason to call it failed. */
async function afterwards(
  authority: Authority,
  { keyHash }: IdempotentRequest,
  write: () => Promise<void>,
): Promise<void> {
  try {
    await write();
  } catch (fault) {
    authority.events.faulted(fault, `keeping the answer of the request ${keyHash.slice(0, 16)}`);
  }
}

async function keep(
  authority: Authority,
  { keyHash, requestHash }: IdempotentRequest,
  { key }: RequestMark,
  answer: KeptAnswer | KeptRefusal,
): Promise<void> {
  const iv = authority.random(ivBytes);
  const sealing = createCipheriv(cipher, answerKey(key), iv).setAAD(Buffer.from(requestHash));
  const sealed = [sealing.update(gzipSync(JSON.stringify(answer))), sealing.final()];
  await authority.store.finishIdempotent(keyHash, new Uint8Array(Buffer.concat([iv, sealing.getAuthTag(), ...sealed])));
}

function replay(
  { answer, requestHash, begunAt }: KnownRequest,
  request: IdempotentRequest,
  { key }: RequestMark,
  onReplay: () => void,
): KeptAnswer {
  if (requestHash !== request.requestHash) {
    throw new AppError(
      "conflict",
      "This Idempotency-Key was used for another request (method, path or body differ); take a new key for a new request",
    );
  }
  if (answer === null) {
    throw new AppError(
      "conflict",
      `A request with this Idempotency-Key was begun at ${new Date(begunAt).toISOString()}, and how it ended was not written down: look whether it took effect, then use another key`,
    );
  }
  const kept = unseal(answer, key, requestHash);
  onReplay();
  if ("refused" in kept) throw new AppError(kept.refused, kept.message);
  return kept;
}

function unseal(sealed: Uint8Array, key: string, requestHash: string): KeptAnswer | KeptRefusal {
  const [iv, tag] = [sealed.subarray(0, ivBytes), sealed.subarray(ivBytes, ivBytes + tagBytes)];
  const opening = createDecipheriv(cipher, answerKey(key), iv, { authTagLength: tagBytes })
    .setAAD(Buffer.from(requestHash))
    .setAuthTag(tag);
  const packed = Buffer.concat([opening.update(sealed.subarray(ivBytes + tagBytes)), opening.final()]);
  const kept = JSON.parse(gunzipSync(packed).toString("utf8")) as KeptAnswer | KeptRefusal;
  if ("refused" in kept && !isProblemCode(kept.refused)) throw new AppError("internal");
  return kept;
}

function requestOf(authority: Authority, caller: Caller, mark: RequestMark): IdempotentRequest {
  const now = authority.clock.now();
  return {
    keyHash: hashOf(caller.actor, mark.key),
    operator: caller.actor,
    requestHash: hashOf(mark.method, mark.path, mark.bodyHash),
    begunAt: now,
    expiresAt: now + keptFor,
  };
}

/** As JSON, so that no two lists of parts read the same. */
function hashOf(...parts: readonly string[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
}

/** Whoever has the database has only the hash of what the answer is encrypted with. */
function answerKey(key: string): Uint8Array {
  return new Uint8Array(hkdfSync("sha256", key, "", "newleaf idempotent answer", 32));
}

const running = new WeakMap<Store, Set<string>>();

/** Hashes of the keys that this process is working on. */
function runningIn(store: Store): Set<string> {
  const known = running.get(store);
  if (known !== undefined) return known;
  const none = new Set<string>();
  running.set(store, none);
  return none;
}
