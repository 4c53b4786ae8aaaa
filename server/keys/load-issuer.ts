import { closeSync, fstatSync, openSync, readFileSync } from "node:fs";
import { createPrivateKey, type KeyObject } from "node:crypto";
import { AppError } from "@newleaf/shared/problems";
import { openIssuer, type Issuer } from "../ca/issuer.ts";

const foreignBits = 0o077;

/**
 * An issuer whose key lies unencrypted on disk.
 * @throws AppError `conflict` when others than the owner can read the file, when it is not a private key, or not the certificate's
 */
export function loadIssuer(certificateDer: Uint8Array, keyFile: string): Issuer {
  return openIssuer(certificateDer, readPrivateKey(keyFile));
}

/**
 * An issuer whose key was read already.
 * @param name what to call it in an error
 * @throws AppError `conflict` when it is not a private key, or not the certificate's
 */
export function issuerFromPem(certificateDer: Uint8Array, pem: Buffer, name: string): Issuer {
  return openIssuer(certificateDer, parse(Buffer.from(pem), name));
}

/**
 * An unencrypted private key that only its owner can read.
 * @throws AppError `conflict`, Error (ENOENT and what else opening a file gives)
 */
export function readPrivateKey(file: string): KeyObject {
  const descriptor = openSync(file, "r");
  try {
    // Asked of the open file, so that nobody can put another in its place between the look and the read.
    const { mode } = fstatSync(descriptor);
    if ((mode & foreignBits) !== 0) {
      throw new AppError(
        "conflict",
        `Others can read the private key ${file}; allow only its owner: chmod 600 ${file}`,
      );
    }
    return parse(readFileSync(descriptor), file);
  } finally {
    closeSync(descriptor);
  }
}

function parse(pem: Buffer, file: string): KeyObject {
  try {
    return createPrivateKey({ key: pem, format: "pem" });
  } catch {
    // Without the library's error, which may quote what it read.
    throw new AppError("conflict", `${file} is not an unencrypted private key in PEM`);
  } finally {
    pem.fill(0);
  }
}
