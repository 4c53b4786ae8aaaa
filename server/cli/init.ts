/** `newleaf init`: makes a data directory with a new certification authority in it, all or nothing. */
import { randomBytes } from "node:crypto";
import { chmodSync, existsSync } from "node:fs";
import { chmod, mkdir, readdir, readFile, rename, rmdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { createFileExclusively, makeDirectory, syncDirectory } from "@newleaf/shared/durable-file";
import { fingerprint } from "@newleaf/shared/fingerprint";
import { isIdentityId } from "@newleaf/shared/names";
import { pemEncode } from "@newleaf/shared/pem";
import { AppError } from "@newleaf/shared/problems";
import { type Founding, prepareFounding, recordFounding, serviceIdentity } from "../authority/found.ts";
import { configFile, defaultPublicUrl, parseConfig, resolveDataDir } from "../config.ts";
import { isHost, isPublicUrl } from "../config-tree.ts";
import { configTemplate } from "../config-template.ts";
import { encryptPrivateKey, writePrivateKey } from "../keys/private-key.ts";
import { openSqliteStore } from "../store/sqlite/store.ts";
import { createOperatorFiles } from "./operator/files.ts";
import { offlineReadme } from "./offline-readme.ts";
import type { Terminal } from "./terminal.ts";
import { UsageError } from "./usage-error.ts";
import { systemCause } from "./system-error.ts";

export interface InitOptions {
  readonly data?: string;
  readonly caName?: string;
  readonly host?: readonly string[];
  readonly publicUrl?: string;
  readonly rootPassphraseFile?: string;
  readonly operator?: string;
}

const shortestPassphrase = 8;
/** Everything is built in here and moved up, newleaf.yml last: a directory without newleaf.yml is not a data directory. */
const staging = ".newleaf-init";
/** What a fresh file system may bring along. */
const ignorable: readonly string[] = ["lost+found", staging];

/**
 * @throws UsageError (flags, passphrase), AppError conflict (there is something in the directory)
 */
export async function init(terminal: Terminal, options: InitOptions): Promise<void> {
  const values = checkOptions(options);
  const dataDir = resolveDataDir(options.data, terminal.env);
  await refuseOccupied(dataDir);
  const passphrase = await readPassphrase(terminal, options.rootPassphraseFile);
  const yaml = configTemplate(values);
  const config = parseConfig({ dataDir, text: yaml, env: {} });
  const founding = await prepareFounding({
    ...values,
    operatorProfile: config.profiles.operator,
    renewal: config.renewal,
    crlLifetime: config.crl.lifetime,
    now: Date.now(),
    random: (size) => randomBytes(size),
  });
  await build(dataDir, { founding, yaml, passphrase, operator: values.operator });
  terminal.out(summary(dataDir, founding, values.operator));
}

interface Content {
  readonly founding: Founding;
  readonly yaml: string;
  readonly passphrase: string;
  readonly operator: string;
}

/** The order matters: see `staging`. */
async function build(dataDir: string, content: Content): Promise<void> {
  await makeDirectory(dataDir, 0o700);
  await chmod(dataDir, 0o700);
  await setAsideUnfinished(dataDir);
  const stage = join(dataDir, staging);
  await mkdir(stage, { mode: 0o700 });

  // 1. Everything, complete and fsynced, where nobody looks.
  await writeContent(stage, content);
  // 2. Into place, the configuration last. A crash before that leaves a directory that `serve` refuses and `init` takes up again.
  const names = await readdir(stage);
  for (const name of names.filter((entry) => entry !== configFile))
    await rename(join(stage, name), join(dataDir, name));
  await syncDirectory(dataDir);
  await rename(join(stage, configFile), join(dataDir, configFile));
  await syncDirectory(dataDir);
  // 3. From here on it is a data directory.
  await rmdir(stage);
}

async function writeContent(stage: string, { founding, yaml, passphrase, operator }: Content): Promise<void> {
  const { root, intermediate } = founding;
  const rootPem = pemEncode("CERTIFICATE", root.certificate);
  await makeDirectory(join(stage, "issuers"), 0o700);
  await writePrivateKey(join(stage, "issuers", `${intermediate.id}.key.pem`), founding.intermediateKey);

  await makeDirectory(join(stage, "offline"), 0o700);
  const encrypted = await encryptPrivateKey(founding.rootKey, passphrase);
  await createFileExclusively(join(stage, "offline", "root.key.pem"), encrypted, { mode: 0o600 });
  await createFileExclusively(join(stage, "offline", "root.pem"), rootPem, { mode: 0o644 });
  const readme = offlineReadme(fingerprint(root.certificate), root.notAfter, intermediate.notAfter);
  await createFileExclusively(join(stage, "offline", "README.txt"), readme, { mode: 0o644 });
  await createFileExclusively(join(stage, "roots.pem"), rootPem, { mode: 0o644 });

  await makeDirectory(join(stage, "operators"), 0o700);
  await createOperatorFiles(join(stage, "operators", operator), {
    key: founding.operatorKey,
    chain: pemEncode("CERTIFICATE", founding.operatorLeaf) + pemEncode("CERTIFICATE", intermediate.certificate),
  });

  const database = join(stage, "newleaf.db");
  {
    await using store = await openSqliteStore({ path: database, create: true });
    chmodSync(database, 0o600);
    await recordFounding(store, founding);
  }
  await createFileExclusively(join(stage, configFile), yaml, { mode: 0o600 });
}

async function refuseOccupied(dataDir: string): Promise<void> {
  if (!existsSync(dataDir)) return;
  if (!(await stat(dataDir)).isDirectory()) throw new AppError("conflict", `${dataDir} is not a directory`);
  if (existsSync(join(dataDir, configFile))) {
    throw new AppError(
      "conflict",
      `${dataDir} already holds a certification authority; nothing was changed. Start it with: newleaf serve --data ${dataDir}`,
    );
  }
  const entries = await readdir(dataDir);
  // With the staging directory there, and no newleaf.yml, what lies around it is of an init that did not end.
  if (entries.includes(staging)) return;
  const foreign = entries.filter((name) => !ignorable.includes(name));
  if (foreign.length > 0) {
    throw new AppError(
      "conflict",
      `${dataDir} is not empty (${foreign.slice(0, 3).join(", ")}); nothing was changed. Give an empty or a new directory with --data`,
    );
  }
}

/** Nothing is deleted, not even what an interrupted init left: it goes into a directory of its own. */
async function setAsideUnfinished(dataDir: string): Promise<void> {
  if (!existsSync(join(dataDir, staging))) return;
  const aside = join(dataDir, `unfinished-init-${Date.now()}`);
  await mkdir(aside, { mode: 0o700 });
  for (const name of await readdir(dataDir)) {
    if (name !== "lost+found" && !name.startsWith("unfinished-init-"))
      await rename(join(dataDir, name), join(aside, name));
  }
  await syncDirectory(dataDir);
}

function checkOptions(options: InitOptions) {
  const hosts = (options.host ?? []).length > 0 ? (options.host ?? []) : ["localhost"];
  const caName = (options.caName ?? "Newleaf").trim();
  const publicUrl = (options.publicUrl ?? defaultPublicUrl(hosts)).replace(/\/+$/, "");
  const operator = options.operator ?? "admin@operators";
  const badHost = hosts.find((host) => !isHost(host));
  if (badHost !== undefined)
    throw new UsageError(`--host ${badHost} is neither a DNS name in lower case nor an IP address`);
  if (caName === "" || caName.length > 40)
    throw new UsageError("--ca-name has 1 to 40 characters; it goes into the names of the CA certificates");
  // oxlint-disable-next-line no-control-regex
  if (/[\u0000-\u001f\u007f]/.test(caName)) throw new UsageError("--ca-name must not contain control characters");
  if (!isPublicUrl(publicUrl)) {
    throw new UsageError(
      `--public-url ${publicUrl} must be an http:// URL without a query, for example http://ca.claw.internal:8080 (RFC 5280 §8: plain HTTP)`,
    );
  }
  if (!isIdentityId(operator))
    throw new UsageError(
      `--operator ${operator} is not an identity id: a letter or digit, then up to 63 of A-Z a-z 0-9 . _ @ -`,
    );
  if (operator === serviceIdentity)
    throw new UsageError(`--operator ${operator} is the service's own identity; choose another`);
  return { caName, hosts, publicUrl, operator };
}

async function readPassphrase(terminal: Terminal, file: string | undefined): Promise<string> {
  if (file !== undefined) {
    let text: string;
    try {
      text = await readFile(file, "utf8");
    } catch (error) {
      throw new UsageError(`--root-passphrase-file ${file} cannot be read (${systemCause(error)})`, { cause: error });
    }
    return checkPassphrase(text.replace(/\r?\n$/, ""), `The passphrase in ${file}`);
  }
  if (!terminal.isInteractive) {
    throw new UsageError(
      "The root key needs a passphrase, and there is no terminal to ask on. Write one into a file (mode 0600) and give it with --root-passphrase-file FILE",
    );
  }
  const passphrase = checkPassphrase(await terminal.askSecret("Passphrase for the root key: "), "The passphrase");
  if ((await terminal.askSecret("The same again: ")) !== passphrase)
    throw new UsageError("The two passphrases differ; nothing was made.");
  return passphrase;
}

function checkPassphrase(passphrase: string, what: string): string {
  if (passphrase.length < shortestPassphrase)
    throw new UsageError(`${what} is shorter than ${shortestPassphrase} characters`);
  if (/[\r\n]/.test(passphrase)) throw new UsageError(`${what} has more than one line`);
  return passphrase;
}

function summary(dataDir: string, founding: Founding, operator: string): string {
  const day = (at: number): string => new Date(at).toISOString().slice(0, 10);
  const { root, intermediate } = founding;
  return `A certification authority was founded in ${dataDir}

  root          ${fingerprint(root.certificate)}
                until ${day(root.notAfter)}, key encrypted in offline/
  intermediate  ${intermediate.id}, until ${day(intermediate.notAfter)}
  operator      ${operator}, role admin: operators/${operator}/{chain,key}.pem

Now carry ${join(dataDir, "offline")} away (its README.txt says how), and then:

  newleaf serve --data ${dataDir}
  newleaf status --data ${dataDir}
`;
}
