/** `check` of what only watches: canaries and the file for node_exporter. Connects to nobody. */
import { access, constants, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { canaryProblem, type CanaryConfig } from "../probe/canary.ts";

/** What is wrong with a probe's canaries, a sentence each; empty when nothing is. */
export async function canaryProblems(canary: CanaryConfig, now: number): Promise<readonly string[]> {
  const files = [canary.good, canary.revoked].filter((one) => one !== null && one !== "own");
  const problems = await Promise.all(files.map((one) => canaryProblem(one, now)));
  return problems.filter((problem) => problem !== null);
}

/** What is wrong with the place of the textfile; null when nothing is. */
export async function textfileProblem(path: string): Promise<string | null> {
  const directory = dirname(path);
  try {
    if (!(await stat(directory)).isDirectory()) return `${directory} is not a directory`;
    await access(directory, constants.W_OK | constants.X_OK);
    return null;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT"
      ? `${directory} does not exist; make it, and name it to node_exporter with --collector.textfile.directory`
      : `${directory} is not writable for this user`;
  }
}
