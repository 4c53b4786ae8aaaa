import { createPrivateKey, X509Certificate } from "node:crypto";
import { join } from "node:path";
import { fingerprint } from "@newleaf/shared/fingerprint";
import { pemDecode } from "@newleaf/shared/pem";
import { faultsOfAccess } from "./access.ts";
import { faultsOfCopies } from "./copies.ts";
import type { FileName } from "./material.ts";
import { currentLink, type Target, versionPath } from "./target.ts";
import {
  confirmedMarker,
  faultsOf,
  hasMarker,
  linkedVersion,
  quarantineMarker,
  readInVersion,
  readRecord,
} from "./version.ts";

/** What is on disk through `current`, as a proxy that opens the files now would find it. */
export interface Installed {
  readonly version: string;
  /** `sha256:…` of the leaf. */
  readonly fingerprint: string;
  readonly notAfter: number;
  /** False when key and leaf on disk are not a pair; true also when `files` asks for no key. */
  readonly keyMatches: boolean;
  readonly bundleVersion: number;
  /** CA id → number of its CRL. */
  readonly crlNumbers: Readonly<Record<string, number>>;
  /** What it was made with besides the set (see `VersionFacts`). */
  readonly recipe?: string;
  /** Seen served (see `confirm`). */
  readonly confirmed: boolean;
  readonly quarantined: boolean;
  /** Nothing in `problems`: every file asked for is there, unaltered, a pair, with the right mode and owner, its copies too. */
  readonly complete: boolean;
  /** One sentence each. */
  readonly problems: readonly string[];
}

/** Where the leaf is looked for, the first that the target asks for. */
const leafFiles: readonly FileName[] = ["cert.pem", "fullchain.pem", "combined.pem", "tls.crt"];
const keyFiles: readonly FileName[] = ["key.pem", "combined.pem", "tls.key"];

/**
 * What is installed now; changes nothing. Null when nothing usable is: no `current`, a `current` that leads nowhere, or a
 * version of which not even the leaf can be told.
 * @throws InstallError when the directory cannot be read, or `current` is something the agent did not make
 */
export async function readInstalled(target: Target): Promise<Installed | null> {
  const version = await linkedVersion(currentLink(target));
  if (version === null) return null;
  const record = await readRecord(target, version);
  const leaf = await readLeaf(target, version);
  const shown = leaf === null ? record?.fingerprint : fingerprint(leaf.raw);
  const notAfter = leaf?.validToDate.getTime() ?? record?.notAfter;
  if (shown === undefined || notAfter === undefined) return null;

  const keyFaults = await faultsOfKeys(target, version, leaf);
  const problems = [
    ...(await faultsOf(target, version)),
    ...(record !== null && record.fingerprint !== shown ? ["the leaf on disk is not the one of meta.json"] : []),
    ...keyFaults,
    ...(await faultsOfAccess(target, version)),
    ...(await faultsOfCopies(target, version)),
  ];
  return {
    version,
    fingerprint: shown,
    notAfter,
    keyMatches: keyFaults.length === 0,
    bundleVersion: record?.bundleVersion ?? 0,
    crlNumbers: record?.crlNumbers ?? {},
    ...(record?.recipe === undefined ? {} : { recipe: record.recipe }),
    confirmed: await hasMarker(target, version, confirmedMarker),
    quarantined: await hasMarker(target, version, quarantineMarker),
    complete: problems.length === 0,
    problems,
  };
}

async function readLeaf(target: Target, version: string): Promise<X509Certificate | null> {
  const file = leafFiles.find((name) => target.files.includes(name));
  if (file === undefined) return null;
  try {
    const [der] = pemDecode(
      (await readInVersion(join(versionPath(target, version), file))).toString("utf8"),
      "CERTIFICATE",
    );
    return der === undefined ? null : new X509Certificate(der);
  } catch {
    // Missing or unreadable: faultsOf says so.
    return null;
  }
}

async function faultsOfKeys(target: Target, version: string, leaf: X509Certificate | null): Promise<readonly string[]> {
  const faults: string[] = [];
  for (const file of keyFiles.filter((name) => target.files.includes(name))) {
    const matches = await keyMatches(join(versionPath(target, version), file), leaf);
    if (!matches) faults.push(`the key in ${file} does not belong to the leaf`);
  }
  return faults;
}

async function keyMatches(path: string, leaf: X509Certificate | null): Promise<boolean> {
  try {
    const [der] = pemDecode((await readInVersion(path)).toString("utf8"), "PRIVATE KEY");
    if (der === undefined || leaf === null) return der !== undefined;
    return leaf.checkPrivateKey(createPrivateKey({ key: der, type: "pkcs8", format: "der" }));
  } catch {
    return false;
  }
}
