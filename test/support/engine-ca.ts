import { randomBytes, type KeyObject } from "node:crypto";
import { createCsr } from "@newleaf/shared/csr";
import { generateKey, type KeyAlgorithm } from "@newleaf/shared/key-algorithm";
import { noNames, type Names } from "@newleaf/shared/names";
import { createIntermediate, createRoot } from "../../server/ca/ceremony.ts";
import { buildCrl, type CrlContents } from "../../server/ca/crl.ts";
import { readCsr } from "../../server/ca/csr.ts";
import { openIssuer, type Issuer } from "../../server/ca/issuer.ts";
import { prepareLeaf, signLeaf, type LeafPlan, type PreparedLeaf } from "../../server/ca/leaf.ts";
import { defaultProfiles, type LeafProfile } from "../../server/ca/profile.ts";
import { newSerial } from "../../server/ca/serial.ts";

export const publicUrl = "http://ca.claw.internal:8080";

/** A root and an intermediate made by the product's own ceremony, in memory. */
export interface EngineCa {
  readonly root: Issuer;
  readonly issuer: Issuer;
  readonly rootKey: KeyObject;
  readonly issuerKey: KeyObject;
  readonly now: number;
}

export interface IssueOptions {
  readonly profile?: LeafProfile;
  readonly identity?: string;
  readonly names?: Names;
  readonly key?: KeyObject;
  readonly serial?: string;
  readonly now?: number;
}

export interface IssuedLeaf {
  readonly der: Buffer;
  readonly key: KeyObject;
  readonly prepared: PreparedLeaf;
}

export function random16(): Buffer {
  return randomBytes(16);
}

export async function makeEngineCa(
  options: { readonly now?: number; readonly rootKey?: KeyAlgorithm; readonly issuerKey?: KeyAlgorithm } = {},
): Promise<EngineCa> {
  const now = options.now ?? Date.now();
  const rootKey = await generateKey(options.rootKey ?? "ecdsa-p384");
  const issuerKey = await generateKey(options.issuerKey ?? "ecdsa-p256");
  const root = await createRoot({ caName: "Claw Lab", now, key: rootKey, random: random16() });
  const intermediate = await createIntermediate({
    caName: "Claw Lab",
    root,
    rootKey,
    key: issuerKey,
    now,
    publicUrl,
    random: random16(),
  });
  return { root: openIssuer(root, rootKey), issuer: openIssuer(intermediate, issuerKey), rootKey, issuerKey, now };
}

/** What a service does with a request, without its store. */
export async function issueLeaf(ca: EngineCa, options: IssueOptions = {}): Promise<IssuedLeaf> {
  const key = options.key ?? (await generateKey("ecdsa-p256"));
  const prepared = prepareLeaf(leafPlan(ca, key, options));
  return { key, prepared, der: signLeaf(prepared, ca.issuer) };
}

export function leafPlan(ca: EngineCa, key: KeyObject, options: IssueOptions = {}): LeafPlan {
  const csr = readCsr(createCsr({ key }));
  return {
    profile: options.profile ?? defaultProfiles.agent,
    identity: options.identity ?? "gateway-1",
    names: options.names ?? noNames,
    publicKey: csr.publicKey,
    spki: csr.spki,
    serial: options.serial ?? newSerial(random16()),
    now: options.now ?? ca.now,
    issuer: ca.issuer,
    publicUrl,
  };
}

export function makeCrl(issuer: Issuer, now: number, revoked: CrlContents["revoked"] = [], number = 1): Buffer {
  return buildCrl({ issuer, number, thisUpdate: now, nextUpdate: now + 14 * 86_400_000, revoked });
}
