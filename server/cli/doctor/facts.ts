/** What `newleaf doctor` found out before it judges. Nothing in here decides whether it is good. */
import type { ServerConfig } from "../../config.ts";
import type { DatabaseFacts } from "../../store/sqlite/inspect.ts";

export interface Facts {
  readonly now: number;
  readonly dataDir: string;
  /** The uid that runs this. */
  readonly uid: number;
  readonly configuration: ConfigurationFacts;
  readonly files: readonly FileFacts[];
  /** Or why it could not be read. */
  readonly database: DatabaseFacts | string;
  readonly issuerKeys: readonly IssuerKeyFacts[];
  readonly rootKeyPresent: boolean;
  readonly disks: readonly DiskFacts[];
  readonly backups: BackupFacts | null;
  readonly journal: JournalFacts | null;
  /** Null: stopped. */
  readonly service: ServiceFacts | null;
}

export interface ConfigurationFacts {
  /** Null when it does not hold. */
  readonly config: ServerConfig | null;
  readonly fault: string | null;
  /** SHA-256 of newleaf.yml as it is on disk. */
  readonly digest: string | null;
}

export interface FileFacts {
  readonly path: string;
  readonly kind: "secret" | "directory" | "public";
  /** Permission bits. */
  readonly mode: number;
  readonly uid: number;
}

export interface IssuerKeyFacts {
  readonly issuer: string;
  /** Null: it is there and is the certificate's. */
  readonly fault: string | null;
}

export interface DiskFacts {
  readonly what: "data" | "backups" | "journal";
  readonly path: string;
  readonly device: number;
  /** Octets this user may still write. */
  readonly free: number;
  readonly size: number;
}

export interface BackupFacts {
  readonly directory: string;
  readonly newest: {
    readonly name: string;
    readonly createdAt: number;
    readonly encrypted: boolean;
    readonly journal: { readonly journal: string; readonly n: number } | null;
  } | null;
  /** What does not agree with the newest one's manifest. */
  readonly fault: string | null;
}

export interface JournalFacts {
  readonly directory: string;
  /** Why it cannot be written; null when it can. */
  readonly fault: string | null;
}

export interface ServiceFacts {
  readonly pid: number;
  /** Whether a process of that number lives. */
  readonly alive: boolean;
  /** Of Newleaf; null when it did not say. */
  readonly version: string | null;
  /** Of newleaf.yml when it was started. */
  readonly configuration: string | null;
  readonly listeners: Readonly<Record<string, string | null>>;
  /** What /readyz says; null when there is no ops listener or it does not answer. */
  readonly ready: { readonly ok: boolean; readonly problems: readonly string[] } | null;
  /** By name and labels, as the scrape has them. */
  readonly metrics: ReadonlyMap<string, number>;
  /** What the agents listener shows; null when it does not answer. */
  readonly certificate: CertificateFacts | null;
}

export interface CertificateFacts {
  readonly notBefore: number;
  readonly notAfter: number;
  /** Null: it chains to roots.pem. */
  readonly fault: string | null;
  /** Of newleaf.yml's hosts, those that it does not name. */
  readonly missing: readonly string[];
  readonly protocol: string;
}
