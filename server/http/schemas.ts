/** The bodies of the agents and enrollment listeners. Limits are here, beside what they limit. */
import { isFingerprint } from "@newleaf/shared/fingerprint";
import { z } from "zod";

const maxCsrText = 100_000;
const maxClaim = 200;
const maxCertificates = 64;
const maxProbes = 32;
const maxText = 1_000;

const csr = z.string().min(1).max(maxCsrText);
const fingerprint = z.string().refine(isFingerprint, "not a sha256: fingerprint");
const time = z.iso.datetime({ offset: true });
const shortText = z.string().max(256);
/** What an operator's terminal will show must not move its cursor. */
const printable = z.string().regex(/^[^\p{Cc}\p{Cf}]*$/u, "has control characters");

export const renewalSchema = z.strictObject({ csr });

export const enrollmentSchema = z.strictObject({
  csr,
  token: z.string().min(1).max(512).exactOptional(),
  claim: printable.max(maxClaim).exactOptional(),
});

export const reportSchema = z.strictObject({
  certificates: z
    .array(
      z.strictObject({
        name: printable.max(64),
        installed: fingerprint.nullable(),
        nextFingerprint: fingerprint.exactOptional(),
        served: z
          .array(z.strictObject({ address: shortText, serverName: shortText, fingerprint, at: time }))
          .max(maxProbes),
      }),
    )
    .max(maxCertificates),
  bundleVersion: z.int().nonnegative(),
  crls: z
    .record(z.string().max(64), z.int().nonnegative())
    .refine((crls) => Object.keys(crls).length <= maxCertificates, "too many CRLs"),
  clock: time,
  failure: z.strictObject({ step: printable.max(64), message: z.string().max(maxText), at: time }).exactOptional(),
});
