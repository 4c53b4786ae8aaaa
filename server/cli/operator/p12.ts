/** `newleaf operator p12`: the operator's key and certificate in one file, as browsers import it. */
import { createPrivateKey, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { createFileExclusively } from "@newleaf/shared/durable-file";
import { pemDecode } from "@newleaf/shared/pem";
import { keyStore, passphraseProblem } from "@newleaf/shared/pkcs12";
import { AppError } from "@newleaf/shared/problems";
import { readOperatorFiles } from "./files.ts";
import { moment } from "../output.ts";
import { type Connection, resolveStandpoint } from "./session.ts";
import type { Terminal } from "../terminal.ts";
import { systemCause } from "../system-error.ts";
import { UsageError } from "../usage-error.ts";

export interface P12Options extends Connection {
  readonly out: string;
  readonly passphraseFile?: string;
}

/** 144 bits. */
const passphraseBytes = 18;

/** @throws UsageError (passphrase), AppError conflict (a file is in the way), not-found */
export async function writeP12(terminal: Terminal, options: P12Options): Promise<void> {
  const { operator } = resolveStandpoint(options, terminal.env);
  const files = await readOperatorFiles(operator);
  const given = options.passphraseFile === undefined ? null : readPassphrase(options.passphraseFile);
  const passphrase = given ?? randomBytes(passphraseBytes).toString("base64url");
  const key = createPrivateKey(files.key);
  const alias = /^CN=(.+)$/m.exec(files.leaf.subject)?.[1] ?? "newleaf";
  const certificates = pemDecode(files.chain, "CERTIFICATE");
  const store = await keyStore({ alias, key, certificates }, { passphrase, seed: key });
  const passphraseFile = `${options.out}.passphrase`;
  if (given === null) await create(passphraseFile, `${passphrase}\n`);
  await create(options.out, store);
  const where = given === null ? `, its passphrase in ${passphraseFile}` : "";
  const until = moment(files.leaf.validToDate.toISOString(), terminal.clock.now());
  terminal.out(`${options.out} holds key and certificate of ${alias}, until ${until}${where}.\n`);
  terminal.err(
    "Import it into the browser and delete it. The copy does not renew itself: make a new one when the command line has renewed.\n",
  );
}

async function create(path: string, content: string | Buffer): Promise<void> {
  try {
    await createFileExclusively(path, content, { mode: 0o600 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    throw new AppError("conflict", `${path} is there already; move it away or say another place with --out`, {
      cause: error,
    });
  }
}

function readPassphrase(file: string): string {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new UsageError(`--passphrase-file ${file} cannot be read (${systemCause(error)})`, { cause: error });
  }
  const passphrase = text.split(/\r?\n/)[0] ?? "";
  const problem = passphraseProblem(passphrase);
  if (problem !== null) throw new UsageError(`The passphrase in ${file} ${problem}`);
  return passphrase;
}
