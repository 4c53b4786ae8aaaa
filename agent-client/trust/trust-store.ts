/**
 * The trust bundle and the CRLs that this host holds, in `state/trust.json` and `state/crls/`. What gets in is judged by bundle.ts.
 *
 * Roots come from a human (the roots file), by fingerprint at the first contact, or by a bundle whose new roots are vouched for.
 * From the first bundle on that has them, roots follow the bundle: one that it drops is no longer trusted.
 */
import { readFile, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Bundle } from "@newleaf/shared/api";
import type { Clock } from "@newleaf/shared/clock";
import { makeDirectory, writeFileDurably } from "@newleaf/shared/durable-file";
import { fingerprint } from "@newleaf/shared/fingerprint";
import {
  type AcceptedCrl,
  acceptBundle,
  acceptCrl,
  BundleError,
  EarlyCrlError,
  isListed,
  readRoots,
} from "./bundle.ts";
import { authorityId } from "../install/material.ts";
import type { Log } from "../log.ts";
import type { ServiceClient, Speaker } from "../service-client.ts";

export interface Trust {
  /** 0 before the first bundle. */
  readonly version: number;
  /** DER; empty before the first bundle. */
  readonly roots: readonly Buffer[];
  readonly issuers: readonly Buffer[];
  /** CA id → its CRL. */
  readonly crls: ReadonlyMap<string, AcceptedCrl>;
}

export interface TrustStoreOptions {
  readonly state: string;
  /** PEM file a human keeps; null for none. */
  readonly rootsFile: string | null;
  /** Recognises the service at the first contact; null for none. */
  readonly rootFingerprint: string | null;
  readonly client: () => ServiceClient;
  readonly clock: Clock;
  readonly log: Log;
}

interface Record1 {
  readonly format: 1;
  readonly version: number;
  readonly etag: string | null;
  /** base64 DER each. */
  readonly roots: readonly string[];
  readonly issuers: readonly string[];
  /** Roots that a human or a fingerprint brought and no bundle has had yet. */
  readonly pinned: readonly string[];
  /** Fingerprints of all roots that were ever in the roots file: a human brings a root once. */
  readonly seen: readonly string[];
}

const blank: Record1 = { format: 1, version: 0, etag: null, roots: [], issuers: [], pinned: [], seen: [] };
const trustFile = "trust.json";
const crlDirectory = "crls";
/** A busy service may publish while it is asked, but not each time. */
const mostBehind = 3;

export class TrustStore {
  readonly #options: TrustStoreOptions;
  #record: Record1;
  #crls: ReadonlyMap<string, AcceptedCrl>;
  #news: News | null = null;
  /** How many times in a row less was fetched than had been announced. */
  #behind = 0;
  #running: Promise<void> | null = null;
  /** When the service was last asked with success; null: not since the start. */
  checkedAt: number | null = null;
  /** Rises with every change of bundle or CRLs. */
  revision = 0;

  private constructor(options: TrustStoreOptions, record: Record1, crls: ReadonlyMap<string, AcceptedCrl>) {
    this.#options = options;
    this.#record = record;
    this.#crls = crls;
  }

  /** @throws BundleError when the roots file or what is held cannot be read */
  static async open(options: TrustStoreOptions): Promise<TrustStore> {
    await makeDirectory(join(options.state, crlDirectory), 0o700);
    const record = await readRecord(options.state);
    const store = new TrustStore(options, record, await readCrls(options.state, record, options.clock.now()));
    await store.#readRootsFile();
    return store;
  }

  get trust(): Trust {
    const { version, roots, issuers } = this.#record;
    return { version, roots: decode(roots), issuers: decode(issuers), crls: this.#crls };
  }

  /** DER of what TLS to the service is verified with. */
  get anchors(): readonly Buffer[] {
    return distinct([...decode(this.#record.roots), ...decode(this.#record.pinned)]);
  }

  /** The service has announced something newer, or must have something newer by now: a CRL is over that was not asked for since. */
  get outdated(): boolean {
    const { version } = this.#record;
    const { checkedAt } = this;
    const now = this.#options.clock.now();
    const isOver = ({ nextUpdate }: AcceptedCrl): boolean =>
      nextUpdate <= now && (checkedAt === null || checkedAt < nextUpdate);
    if ([...this.#crls.values()].some(isOver)) return true;
    if (this.#news === null) return false;
    if (this.#news.bundleVersion > version) return true;
    return Object.entries(this.#news.crls).some(([id, number]) => {
      const held = this.#crls.get(id);
      return held !== undefined && number > held.number;
    });
  }

  /** What the change feed says there is. */
  announce(news: News): void {
    this.#news = news;
  }

  /** Asks the service for bundle and CRLs; who asks meanwhile shares the answer. @throws BundleError, AppError, NetworkError */
  refresh(speaker: Speaker | null): Promise<void> {
    this.#running ??= this.#refresh(speaker).finally(() => (this.#running = null));
    return this.#running;
  }

  /** Before anything is said to the service: there is a root to know it by. @throws BundleError, NetworkError */
  async ensureAnchors(): Promise<void> {
    if (this.anchors.length > 0) return;
    if (this.#options.rootFingerprint === null) {
      throw new BundleError(
        "no root is known yet: set roots or rootFingerprint in the configuration, or enroll with a token",
      );
    }
    await this.meet(this.#options.rootFingerprint);
  }

  /**
   * First contact: fetches the roots from whoever answers and keeps the one with this fingerprint.
   * @throws BundleError when it is not there, NetworkError
   */
  async meet(rootFingerprint: string): Promise<void> {
    if (this.anchors.some((root) => fingerprint(root) === rootFingerprint)) return;
    const offered = readRoots(await this.#options.client().unverifiedRoots(), "what the service calls its roots");
    const root = offered.find((der) => fingerprint(der) === rootFingerprint);
    if (root === undefined) {
      throw new BundleError(
        `the service at the enrollment address does not have the root ${rootFingerprint}: ` +
          "either the fingerprint is not that of this service, or something else answers in its place",
      );
    }
    await this.#takeRoots([root], "fingerprint");
  }

  /** Whether any CRL held lists this serial. */
  isRevoked(serial: string): boolean {
    return [...this.#crls.values()].some((crl) => isListed(crl.der, serial));
  }

  async #refresh(speaker: Speaker | null): Promise<void> {
    const news = this.#news;
    await this.#readRootsFile();
    await this.#takeEarlyCrls();
    await this.ensureAnchors();
    const known = this.#record.version === 0 ? null : this.#record.etag;
    const answer = await this.#options.client().bundle(speaker, known);
    // The etag covers the list of CRLs too: not modified means that the CRLs are those fetched then.
    if (answer !== null) {
      try {
        await this.#takeBundle(answer.bundle);
      } finally {
        // A bundle that is refused must not keep the CRLs of known CAs from being fresh.
        await this.#takeCrls(speaker);
      }
      await this.#save({ ...this.#record, etag: answer.etag });
    } else if (this.#authorities().some((der) => !this.#crls.has(authorityId(der)))) {
      await this.#takeCrls(speaker);
    }
    this.checkedAt = this.#options.clock.now();
    this.#judgeNews(news);
  }

  /**
   * A service that announces what it does not have would be asked again at once, for ever, and nothing that comes after trust would
   * be done: that is a failure, with a pause. What was announced while it was asked may be right.
   * @throws BundleError
   */
  #judgeNews(asked: News | null): void {
    if (!this.outdated) {
      this.#news = null;
      this.#behind = 0;
      return;
    }
    this.#behind += 1;
    if (this.#news !== asked && this.#behind < mostBehind) return;
    throw new BundleError(
      "the service announces a newer trust bundle or CRL than it has: it is asked again after a pause",
    );
  }

  async #takeBundle(bundle: Bundle): Promise<void> {
    const record = this.#record;
    const now = this.#options.clock.now();
    const accepted = acceptBundle({ bundle, trusted: this.anchors, heldVersion: record.version, now });
    if (accepted.version !== record.version) {
      this.#options.log.info("bundle-accepted", { version: accepted.version, roots: accepted.roots.length });
    }
    const roots = encode(accepted.roots);
    await this.#save({
      ...record,
      version: accepted.version,
      roots,
      issuers: encode(accepted.issuers),
      pinned: record.pinned.filter((root) => !roots.includes(root)),
      seen: [...new Set([...record.seen, ...accepted.roots.map(fingerprint)])],
    });
  }

  async #takeCrls(speaker: Speaker | null): Promise<void> {
    const { client, clock } = this.#options;
    let early: EarlyCrlError | null = null;
    for (const authority of this.#authorities()) {
      const id = authorityId(authority);
      const held = this.#crls.get(id) ?? null;
      const der = await client().crl(speaker, id);
      if (held !== null && held.der.equals(der)) continue;
      try {
        await this.#keepCrl(id, acceptCrl(der, authority, held?.number ?? null, clock.now()));
      } catch (error) {
        if (!(error instanceof EarlyCrlError)) throw error;
        early = error;
        await this.#layAside(id, der);
      }
    }
    if (early !== null) throw early;
  }

  async #keepCrl(id: string, crl: AcceptedCrl): Promise<void> {
    await writeFileDurably(this.#crlFile(id, "crl"), crl.der, { mode: 0o600 });
    this.#crls = new Map([...this.#crls, [id, crl]]);
    this.revision += 1;
    this.#options.log.info("crl-accepted", { issuer: id, number: crl.number });
  }

  /**
   * Where the clock is behind by more than the service takes to publish the next one, each CRL is from the future when it is fetched:
   * the first is kept until its time comes, because the next would be early again. A proxy with that clock refuses everybody for an
   * early CRL (RFC 5280 §6.3.3) as for one that is over.
   */
  async #layAside(id: string, der: Buffer): Promise<void> {
    const path = this.#crlFile(id, "early");
    if ((await readIfThere(path)) === null) await writeFileDurably(path, der, { mode: 0o600 });
  }

  async #takeEarlyCrls(): Promise<void> {
    for (const authority of this.#authorities()) {
      const id = authorityId(authority);
      const path = this.#crlFile(id, "early");
      const der = await readIfThere(path);
      if (der === null) continue;
      try {
        await this.#keepCrl(
          id,
          acceptCrl(der, authority, this.#crls.get(id)?.number ?? null, this.#options.clock.now()),
        );
      } catch (error) {
        if (error instanceof EarlyCrlError) continue;
        if (!(error instanceof BundleError)) throw error;
      }
      await rm(path, { force: true });
    }
  }

  #crlFile(id: string, kind: "crl" | "early"): string {
    return join(this.#options.state, crlDirectory, `${id}.${kind}`);
  }

  #authorities(): readonly Buffer[] {
    return decode([...this.#record.roots, ...this.#record.issuers]);
  }

  async #readRootsFile(): Promise<void> {
    const { rootsFile } = this.#options;
    if (rootsFile !== null) await this.#takeRoots(readRoots(await textOf(rootsFile), rootsFile), rootsFile);
  }

  async #takeRoots(roots: readonly Buffer[], from: string): Promise<void> {
    const record = this.#record;
    const fresh = roots.filter((root) => !record.seen.includes(fingerprint(root)));
    if (fresh.length === 0) return;
    for (const root of fresh) this.#options.log.info("root-trusted", { root: fingerprint(root), from });
    const pinned = [...new Set([...record.pinned, ...encode(fresh)])].filter((root) => !record.roots.includes(root));
    await this.#save({ ...record, pinned, seen: [...record.seen, ...fresh.map(fingerprint)] });
  }

  async #save(next: Record1): Promise<void> {
    if (JSON.stringify(next) === JSON.stringify(this.#record)) return;
    await writeFileDurably(join(this.#options.state, trustFile), JSON.stringify(next), { mode: 0o600 });
    this.#record = next;
    this.revision += 1;
  }
}

export interface News {
  readonly bundleVersion: number;
  readonly crls: Readonly<Record<string, number>>;
}

/** What is held, for who only looks: reads, changes nothing. @throws BundleError when it is damaged */
export async function readTrust(state: string, now: number): Promise<Trust & { readonly anchors: readonly Buffer[] }> {
  const record = await readRecord(state);
  const roots = decode(record.roots);
  const crls = await readCrls(state, record, now);
  return {
    version: record.version,
    roots,
    issuers: decode(record.issuers),
    crls,
    anchors: [...roots, ...decode(record.pinned)],
  };
}

async function readRecord(state: string): Promise<Record1> {
  const path = join(state, trustFile);
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return blank;
    throw error;
  }
  try {
    const value = JSON.parse(text) as Record1;
    if (value.format !== 1 || !Number.isSafeInteger(value.version)) throw new Error("it has another format");
    for (const list of [value.roots, value.issuers, value.pinned, value.seen]) {
      if (!Array.isArray(list)) throw new Error("a list is missing");
    }
    return value;
  } catch (cause) {
    throw new BundleError(
      `${path} is damaged (${(cause as Error).message}); delete it, and the roots are read anew from the configuration`,
    );
  }
}

/** A CRL that was damaged, or whose CA is gone, is as if it were not there: it is fetched again. */
async function readCrls(state: string, record: Record1, now: number): Promise<ReadonlyMap<string, AcceptedCrl>> {
  const directory = join(state, crlDirectory);
  const found = new Map<string, AcceptedCrl>();
  const names = new Set(await readdir(directory).catch(() => []));
  for (const authority of decode([...record.roots, ...record.issuers])) {
    const id = authorityId(authority);
    if (!names.has(`${id}.crl`)) continue;
    try {
      found.set(id, acceptCrl(await readFile(join(directory, `${id}.crl`)), authority, null, now));
    } catch (error) {
      if (!(error instanceof BundleError)) throw error;
    }
  }
  return found;
}

async function readIfThere(path: string): Promise<Buffer | null> {
  try {
    return await readFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

async function textOf(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw new BundleError(
      `the roots file cannot be read: ${(error as Error).message}; copy roots.pem from the service's data directory there, or leave \`roots\` out and enroll with a token`,
    );
  }
}

function encode(list: readonly Buffer[]): readonly string[] {
  return list.map((der) => der.toString("base64"));
}

function decode(list: readonly string[]): readonly Buffer[] {
  return list.map((text) => Buffer.from(text, "base64"));
}

function distinct(list: readonly Buffer[]): readonly Buffer[] {
  return list.filter((der, at) => list.findIndex((other) => other.equals(der)) === at);
}
