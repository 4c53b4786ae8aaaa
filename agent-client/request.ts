/** The arrows due → key-made → asked → received: a leaf is asked for and kept. */
import { X509Certificate, type KeyObject } from "node:crypto";
import { hostname } from "node:os";
import type { CertificateAnswer } from "@newleaf/shared/api";
import { createCsr } from "@newleaf/shared/csr";
import { fingerprint, keyFingerprint } from "@newleaf/shared/fingerprint";
import { pemDecode, pemEncode } from "@newleaf/shared/pem";
import { AppError, type ProblemCode } from "@newleaf/shared/problems";
import { readToken } from "@newleaf/shared/token";
import type { Period } from "./answers.ts";
import { type AgentContext, arrow, succeeded, speakerOf, WorkError } from "./context.ts";
import { followChain } from "./install/chain.ts";
import { newestLeaf } from "./decide/leaves.ts";
import type { HeldLeaf, OpenRequest } from "./journal.ts";
import type { EnrollmentOutcome } from "./service-client.ts";

/** Refusals that the same key will always meet. */
const keyRefusals: ReadonlySet<ProblemCode> = new Set([
  "key-in-use",
  "key-reused",
  "key-blocked",
  "key-not-acceptable",
]);

/**
 * Asks for the successor of the leaf in force and keeps it. After a lost answer the same key asks again, and gets the same leaf.
 * @throws AppError, NetworkError, WorkError
 */
export async function renew(context: AgentContext): Promise<void> {
  const { journal, credentials, config } = context;
  const speaker = await speakerOf(context);
  if (speaker === null) throw new WorkError("there is no certificate in date to renew with");
  // A successor that never spoke is replaced by the one that is asked for now; it must never speak again.
  await arrow(context, "due", journal.state.nextUsed ? {} : { next: null });
  await arrow(context, "key-made");
  const key = config.newKeyEachRenewal ? await credentials.requestKey(config.key) : speaker.key;
  await arrow(context, "asked", { request: openRequest(context, "renewal", key) });
  try {
    const answer = await context.client.renew(speaker, createCsr({ key }));
    await receive(context, key, answer, {});
  } catch (error) {
    await giveUpBadKey(context, error);
    throw error;
  }
}

export type Enrollment =
  | { readonly kind: "received" }
  | { readonly kind: "pending"; readonly retryAfterSeconds: number };

/**
 * Asks on the enrollment listener: with a token, by an approved key or a recovery grant, or to wait for an operator.
 * The last leaf's key asks while there is one, because a recovery is granted to it; a token always brings a new key.
 * @throws AppError, NetworkError, WorkError
 */
export async function enroll(context: AgentContext, token: string | null): Promise<Enrollment> {
  const { client, trust } = context;
  await arrow(context, "due");
  await trust.ensureAnchors();
  await arrow(context, "key-made");
  const key = await enrollmentKey(context, token !== null);
  const known = context.journal.state.request;
  const isSame = known?.kind === "enrollment" && known.key === keyFingerprint(key);
  await arrow(context, "asked", { request: isSame ? known : openRequest(context, "enrollment", key) });
  const body = { csr: pemEncode("CERTIFICATE REQUEST", createCsr({ key })), claim: claimOf(context) };
  try {
    const outcome = await client.enroll(token === null ? body : { ...body, token });
    return await settle(context, key, outcome, token);
  } catch (error) {
    await giveUpBadKey(context, error);
    throw error;
  }
}

/** Asks what became of a request that waits, made with that token or without one. @throws AppError `enrollment-denied`, `not-found` …, NetworkError */
export async function pollEnrollment(context: AgentContext, id: string, token: string | null): Promise<Enrollment> {
  const key = await enrollmentKey(context, token !== null);
  return settle(context, key, await context.client.pollEnrollment(id), token);
}

/** The key that the next enrollment will ask with, made when there is none. */
export async function enrollmentKey(context: AgentContext, fresh: boolean): Promise<KeyObject> {
  const { journal, credentials, config } = context;
  const newest = newestLeaf(journal.state);
  const begun = journal.state.request?.kind === "enrollment" ? await credentials.readRequestKey() : null;
  if (begun !== null && keyFingerprint(begun) === journal.state.request?.key) return begun;
  if (newest !== null && !fresh) return (await credentials.readLeaf(newest.fingerprint)).key;
  return credentials.requestKey(config.key);
}

async function settle(
  context: AgentContext,
  key: KeyObject,
  outcome: EnrollmentOutcome,
  token: string | null,
): Promise<Enrollment> {
  if (outcome.kind === "certificate") {
    await receive(context, key, outcome.answer, { token: token === null ? null : readToken(token).secretHash });
    return { kind: "received" };
  }
  const { request } = context.journal.state;
  if (request !== null) await context.journal.update({ request: { ...request, pendingId: outcome.answer.id } });
  return { kind: "pending", retryAfterSeconds: outcome.retryAfterSeconds ?? 5 };
}

async function receive(
  context: AgentContext,
  key: KeyObject,
  answer: CertificateAnswer & { readonly renewalPeriod: Period },
  extra: { readonly token?: string | null },
): Promise<void> {
  const { journal, credentials, clock, log, trust } = context;
  const now = clock.now();
  const { leaf, chain, certificate } = judge(answer, key, now);
  try {
    followChain(leaf, chain, trust.anchors, now);
  } catch (error) {
    // Kept, it could never be installed, and nothing would ask for another; asked again, the same request may be answered better.
    trust.checkedAt = null;
    throw new WorkError(
      `the service's answer has a chain that does not hold: ${(error as Error).message}`,
      "preflight-chain",
    );
  }
  await arrow(context, "received");
  await credentials.writeLeaf(key, leaf, chain);
  context.checkpoint("leaf-written");
  const held: HeldLeaf = {
    fingerprint: fingerprint(leaf),
    serial: answer.serial,
    identity: answer.identity,
    lineage: answer.lineage,
    generation: answer.generation,
    notBefore: certificate.validFromDate.getTime(),
    notAfter: certificate.validToDate.getTime(),
    receivedAt: now,
    window: { ...answer.renewalPeriod, learnedAt: now, moved: false },
  };
  const begins = journal.state.request?.kind === "enrollment";
  const { current } = journal.state;
  // A new lineage has nothing to do with the old leaf, unless that still has to serve and speak until the new one does.
  const keep = current !== null && current.notAfter > now ? current : null;
  await journal.update({
    current: begins ? keep : current,
    next: held,
    nextUsed: false,
    request: null,
    staging: null,
    ...extra,
    ...succeeded(context, "ask", "install"),
  });
  context.view.forced = false;
  await credentials.dropRequestKey();
  context.count("issued");
  log.info(begins ? "enrolled" : "renewed", {
    identity: held.identity,
    serial: held.serial,
    generation: held.generation,
    fingerprint: held.fingerprint,
    until: new Date(held.notAfter).toISOString(),
  });
}

/** Before a leaf is kept: it is one certificate, for the key that asked, in date and what the answer says of it. */
function judge(
  answer: CertificateAnswer,
  key: KeyObject,
  now: number,
): { leaf: Buffer; chain: readonly Buffer[]; certificate: X509Certificate } {
  const [leaf, ...rest] = pemDecode(answer.certificate, "CERTIFICATE");
  if (leaf === undefined || rest.length > 0) throw new WorkError("the service's answer does not hold exactly one leaf");
  const certificate = new X509Certificate(leaf);
  if (!certificate.checkPrivateKey(key)) throw new WorkError("the service's answer is a certificate for another key");
  if (certificate.validToDate.getTime() <= now)
    throw new WorkError("the service's answer is a certificate that has expired; is the clock right?");
  return { leaf, chain: pemDecode(answer.chain, "CERTIFICATE"), certificate };
}

function openRequest(context: AgentContext, kind: OpenRequest["kind"], key: KeyObject): OpenRequest {
  return { kind, key: keyFingerprint(key), begunAt: context.clock.now(), pendingId: null };
}

/** The next attempt makes a new key; for an enrollment also when it was the last leaf's. */
async function giveUpBadKey(context: AgentContext, error: unknown): Promise<void> {
  if (!(error instanceof AppError) || !keyRefusals.has(error.code)) return;
  const { journal, credentials, config, log } = context;
  log.warn("key-given-up", { code: error.code });
  await credentials.dropRequestKey();
  const wasEnrollment = journal.state.request?.kind === "enrollment";
  const request = wasEnrollment ? openRequest(context, "enrollment", await credentials.requestKey(config.key)) : null;
  await journal.update({ request });
}

/** A hint for the operator who decides. */
function claimOf({ config }: AgentContext): string {
  return `${config.name} on ${hostname()}`.replaceAll(/[^\x20-\x7e]/g, "?").slice(0, 200);
}
