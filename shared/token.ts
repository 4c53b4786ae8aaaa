import { createHash } from "node:crypto";
import { isFingerprint } from "./fingerprint.ts";
import { AppError } from "./problems.ts";

/** Bytes of randomness in a token. */
export const tokenSecretBytes = 24;

const prefix = "nl1.";
const version = 0x01;
const fingerprintBytes = 32;
const length = 1 + fingerprintBytes + tokenSecretBytes;

export interface Token {
  /** `sha256:…` over the root's DER: lets an agent that knows nothing yet recognise the service. */
  readonly rootFingerprint: string;
  /** SHA-256 of the whole token as lower-case hex: all that the service keeps of it. */
  readonly secretHash: string;
}

/**
 * An enrollment token: `nl1.` and base64url of one version byte, the SHA-256 of the root certificate and 24 secret bytes.
 * @param rootFingerprint `sha256:…` over the root's DER
 * @throws TypeError when either part does not have its size
 */
export function encodeToken(rootFingerprint: string, secret: Uint8Array): string {
  if (!isFingerprint(rootFingerprint))
    throw new TypeError("the root fingerprint of a token is sha256: and 64 hex digits");
  if (secret.length !== tokenSecretBytes) throw new TypeError(`the secret of a token is ${tokenSecretBytes} bytes`);
  const root = Buffer.from(rootFingerprint.slice("sha256:".length), "hex");
  return prefix + Buffer.concat([Buffer.from([version]), root, secret]).toString("base64url");
}

/**
 * Takes a token apart; white space around it is ignored. There is one spelling of each token.
 * @throws AppError `token-invalid`; the message never repeats the text
 */
export function readToken(text: string): Token {
  const token = text.trim();
  if (!token.startsWith(prefix)) throw invalid(`it does not start with "${prefix}"`);
  const encoded = token.slice(prefix.length);
  const bytes = Buffer.from(encoded, "base64url");
  // Node skips characters that are not base64url: only a text that encodes back to itself was one.
  if (bytes.length !== length || bytes.toString("base64url") !== encoded)
    throw invalid("it is cut short or has foreign characters");
  if (bytes[0] !== version) throw invalid("it is of a version that this program does not know");
  return {
    rootFingerprint: `sha256:${bytes.subarray(1, 1 + fingerprintBytes).toString("hex")}`,
    secretHash: createHash("sha256").update(token).digest("hex"),
  };
}

function invalid(why: string): AppError {
  return new AppError(
    "token-invalid",
    `This is not an enrollment token: ${why}. Copy the whole line that "newleaf token create" printed`,
  );
}
