/** `newleaf serve`: runs the service until it is told to stop. */
import { existsSync, realpathSync, statSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { AppError } from "@newleaf/shared/problems";
import { startServer } from "../app.ts";
import { configFile, loadConfig, resolveDataDir } from "../config.ts";
import { isFounded } from "../data-directory.ts";
import type { Terminal } from "./terminal.ts";

export interface ServeOptions {
  readonly data?: string;
  readonly checkConfig?: boolean;
}

/**
 * Resolves when the service has stopped. The first SIGTERM or SIGINT lets it answer what it has begun, the second ends it at once.
 * @throws AppError not-found (nothing was founded there), request-invalid (configuration), conflict (keys that others can read)
 */
export async function serve(terminal: Terminal, options: ServeOptions): Promise<void> {
  const dataDir = resolveDataDir(options.data, terminal.env);
  if (!isFounded(dataDir)) {
    throw new AppError(
      "not-found",
      `There is no certification authority in ${dataDir} yet. Make one with: newleaf init --data ${dataDir}`,
    );
  }
  const config = loadConfig({ dataDir, env: terminal.env });
  await refuseReadableKeys(dataDir);
  if (options.checkConfig === true) {
    terminal.out(`${join(dataDir, configFile)} holds.\n`);
    return;
  }
  const stop = Promise.withResolvers<void>();
  let asked = false;
  const onSignal = (): void => {
    // Whoever asks twice does not want to wait.
    if (asked) process.exit(1);
    asked = true;
    stop.resolve();
  };
  process.on("SIGTERM", onSignal);
  process.on("SIGINT", onSignal);
  try {
    const service = await startServer(config);
    await stop.promise;
    await service[Symbol.asyncDispose]();
  } finally {
    // Kept until here: a second signal while it stops ends it.
    process.off("SIGTERM", onSignal);
    process.off("SIGINT", onSignal);
  }
}

/** @throws AppError conflict naming the files and the command that mends them */
export async function refuseReadableKeys(dataDir: string): Promise<void> {
  // Operators' keys are reached through links too, which some versions of Node follow and others do not: each file once.
  const readable = new Set<string>();
  for (const directory of ["issuers", "operators", "offline"]) {
    const root = join(dataDir, directory);
    if (!existsSync(root)) continue;
    for (const name of await readdir(root, { recursive: true })) {
      if (!name.endsWith("key.pem") || !existsSync(join(root, name))) continue;
      const path = realpathSync(join(root, name));
      if ((statSync(path).mode & 0o077) !== 0) readable.add(path);
    }
  }
  if (readable.size > 0) {
    throw new AppError(
      "conflict",
      `Others than the owner can read private keys of this authority. Mend it with: chmod 600 ${[...readable].join(" ")}`,
    );
  }
}
