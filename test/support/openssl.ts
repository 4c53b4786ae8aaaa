import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pemEncode, type PemLabel } from "@newleaf/shared/pem";

/** The openssl command line as judge, in a directory of its own. */
export interface OpenSsl extends Disposable {
  readonly dir: string;
  /** Writes PEM blocks of one label into a file and gives its path. */
  pem(name: string, label: PemLabel, ...ders: readonly Uint8Array[]): string;
  /** Standard output; throws when openssl says no. */
  run(args: readonly string[], input?: string | Uint8Array): string;
  /** Whether openssl says yes, and what it wrote. */
  ask(args: readonly string[]): { readonly ok: boolean; readonly output: string };
}

export function openSsl(): OpenSsl {
  const dir = mkdtempSync(join(tmpdir(), "newleaf-openssl-"));
  const run = (args: readonly string[], input: string | Uint8Array = ""): string =>
    execFileSync("openssl", [...args], {
      input,
      encoding: "utf8",
      stdio: "pipe",
      maxBuffer: 64 * 1024 * 1024,
      cwd: dir,
    });
  return {
    dir,
    run,
    pem(name, label, ...ders) {
      const file = join(dir, name);
      writeFileSync(file, ders.map((der) => pemEncode(label, der)).join(""), { mode: 0o600 });
      return file;
    },
    ask(args) {
      try {
        return { ok: true, output: run(args) };
      } catch (error) {
        const { stdout = "", stderr = "" } = error as { stdout?: string; stderr?: string };
        return { ok: false, output: `${stdout}${stderr}` };
      }
    },
    [Symbol.dispose]: () => rmSync(dir, { recursive: true, force: true }),
  };
}
