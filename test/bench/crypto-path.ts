/**
 * How much a certificate costs without network and database: `bin/node test/bench/crypto-path.ts [--json]`.
 *
 * One thread. CPU time is what counts (a busy machine stretches wall time), so the rates are per second of CPU; the median of
 * the rounds is printed. The raw operations of node:crypto stand beside, because they are the floor.
 */
import { createPublicKey, randomBytes, sign, verify } from "node:crypto";
import { parseArgs } from "node:util";
import { readCrl } from "@newleaf/shared/crl";
import { createCsr } from "@newleaf/shared/csr";
import { generateKey, type KeyAlgorithm } from "@newleaf/shared/key-algorithm";
import { pemEncode } from "@newleaf/shared/pem";
import type { CrlEntry } from "../../server/ca/crl.ts";
import { readCsr } from "../../server/ca/csr.ts";
import { prepareLeaf, signLeaf } from "../../server/ca/leaf.ts";
import { checkKey, checkNames } from "../../server/ca/policy.ts";
import { defaultProfiles } from "../../server/ca/profile.ts";
import { newSerial } from "../../server/ca/serial.ts";
import { makeCrl, makeEngineCa, publicUrl, random16 } from "../support/engine-ca.ts";

const rounds = 7;
const perRound = 1_500;
const crlEntries = 100_000;
const { values: flags } = parseArgs({ options: { json: { type: "boolean", default: false } } });

const ca = await makeEngineCa();
const profile = defaultProfiles.gateway;
const names = { dns: ["gateway.claw.internal"], ip: ["10.0.1.42"], uri: [], email: [] };
const identity = { id: "gateway-1", names };

const results: Record<string, number> = {};
for (const algorithm of ["ecdsa-p256", "ed25519", "rsa-3072"] as const) await benchPath(algorithm);
await benchFloor();
benchCrl();
if (flags.json) console.log(JSON.stringify(results));

/** Request in PEM to certificate in PEM, as a renewal does it: read, verify, judge, prepare, lint, sign, read back. */
async function benchPath(algorithm: KeyAlgorithm): Promise<void> {
  const text = pemEncode(
    "CERTIFICATE REQUEST",
    createCsr({ key: await generateKey(algorithm), commonName: identity.id, names }),
  );
  const issue = (csr: ReturnType<typeof readCsr>): string => {
    checkKey(csr, profile);
    checkNames({ csr, identity });
    const plan = {
      profile,
      identity: identity.id,
      names,
      publicKey: csr.publicKey,
      spki: csr.spki,
      issuer: ca.issuer,
      publicUrl,
    };
    const prepared = prepareLeaf({ ...plan, serial: newSerial(randomBytes(16)), now: Date.now() });
    return pemEncode("CERTIFICATE", signLeaf(prepared, ca.issuer));
  };
  const parsed = readCsr(text);
  report(`read and verify a request, ${algorithm}`, () => readCsr(text));
  report(`prepare, lint, sign and read back a leaf, ${algorithm}`, () => issue(parsed));
  report(`request to certificate, ${algorithm}`, () => issue(readCsr(text)));
}

async function benchFloor(): Promise<void> {
  const key = await generateKey("ecdsa-p256");
  const publicKey = createPublicKey(key);
  const spki = publicKey.export({ type: "spki", format: "der" });
  const bytes = randomBytes(600);
  const signature = sign("sha256", bytes, key);
  report("node:crypto alone: P-256 sign", () => sign("sha256", bytes, key));
  report("node:crypto alone: P-256 verify", () => verify("sha256", bytes, publicKey, signature));
  report("node:crypto alone: P-256 createPublicKey", () => createPublicKey({ key: spki, format: "der", type: "spki" }));
}

function benchCrl(): void {
  const revoked = Array.from({ length: crlEntries }, (_, at): CrlEntry => ({
    serial: newSerial(random16()),
    revokedAt: ca.now - at * 1000,
    reason: at % 2 === 0 ? "superseded" : "keyCompromise",
  }));
  const der = makeCrl(ca.issuer, ca.now, revoked);
  for (const [name, run] of [
    ["make", () => makeCrl(ca.issuer, ca.now, revoked)],
    ["read", () => readCrl(der)],
  ] as const) {
    const seconds = median(Array.from({ length: 5 }, () => cpuSeconds(run)));
    results[`${name} a CRL, seconds`] = seconds;
    if (!flags.json) console.log(`${name} a CRL of ${crlEntries} entries: ${seconds.toFixed(3)} s of CPU`);
  }
}

function report(name: string, run: () => void): void {
  for (let warm = 0; warm < 500; warm += 1) run();
  const seconds = median(
    Array.from({ length: rounds }, () =>
      cpuSeconds(() => {
        for (let at = 0; at < perRound; at += 1) run();
      }),
    ),
  );
  results[name] = Math.round(perRound / seconds);
  if (!flags.json)
    console.log(`${name}: ${Math.round(perRound / seconds)}/s (${((seconds / perRound) * 1e6).toFixed(1)} µs)`);
}

/** User and system time of the whole process, garbage collection on its other threads included. */
function cpuSeconds(run: () => void): number {
  const before = process.cpuUsage();
  run();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}
