/**
 * `npm run build:agent [-- FILE]`: the agent as one file (dist/newleaf-agent, or FILE) for hosts without Node. rolldown puts its sources
 * and two dependencies into one module, and Node's own `--build-sea` puts that into a copy of Node, stripped where `strip` is installed.
 *
 * That Node is `BUILD_AGENT_NODE`, else the version pinned below, which npm fetches once into .cache/ (no script of a package runs).
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { rolldown } from "rolldown";

/** Until Node 24 learns `--build-sea`, the runtime of the containers and the benchmarks. */
const nodeVersion = "26.10.0";

const root = import.meta.dirname;
const target = resolve(process.argv[2] ?? join(root, "dist", "newleaf-agent"));
mkdirSync(dirname(target), { recursive: true });
const scratch = mkdtempSync(join(tmpdir(), "newleaf-build-agent-"));
// Beside the target, so that the last step is a rename and a running executable is never written to.
const unfinished = `${target}.${process.pid}.new`;
try {
  const node = nodeForExecutables();
  const bundle = await bundleAgent(join(scratch, "newleaf-agent.mjs"));
  writeExecutable(node, strippedCopy(node, join(scratch, "node")), bundle);
  renameSync(unfinished, target);
} finally {
  rmSync(scratch, { recursive: true, force: true });
  rmSync(unfinished, { force: true });
}
const sha256 = createHash("sha256").update(readFileSync(target)).digest("hex");
process.stdout.write(`${sha256}  ${target}\n${(statSync(target).size / 1e6).toFixed(0)} MB\n`);

async function bundleAgent(file: string): Promise<string> {
  await using build = await rolldown({ input: join(root, "agent-client", "main.ts"), cwd: root, platform: "node" });
  await build.write({ file, format: "esm", codeSplitting: false });
  return file;
}

/** @returns the path of a Node that knows `--build-sea` */
function nodeForExecutables(): string {
  const node = process.env["BUILD_AGENT_NODE"] ?? fetchedNode();
  const known = execFileSync(node, ["--help"], { encoding: "utf8" });
  if (!known.includes("--build-sea"))
    throw new Error(`${node} cannot build executables; BUILD_AGENT_NODE has to name a Node ${nodeVersion} or later`);
  return node;
}

/** The package of the binary itself, so that npm has verified its hash and nothing has to be run to install it. */
function fetchedNode(): string {
  const name = `node-${process.platform}-${process.arch}`;
  const directory = join(root, ".cache", `node-${nodeVersion}`);
  const node = join(directory, "node_modules", name, "bin", "node");
  if (!existsSync(node)) {
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, "package.json"), '{ "private": true }\n');
    const wanted = `${name}@${nodeVersion}`;
    execFileSync("npm", ["install", "--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund", wanted], {
      cwd: directory,
      stdio: ["ignore", "ignore", "inherit"],
    });
  }
  return node;
}

/** A fifth of the binary is symbols that nothing at run time looks at. */
function strippedCopy(node: string, copy: string): string {
  try {
    execFileSync("strip", ["-o", copy, node], { stdio: "pipe" });
    return copy;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    process.stderr.write("strip is not installed (apt-get install binutils): the executable will be a fifth larger\n");
    return node;
  }
}

function writeExecutable(node: string, base: string, bundle: string): void {
  const settings = join(scratch, "executable.json");
  const content = {
    // Relative, because the path is kept inside: the same sources and the same Node make the same bytes.
    main: relative(scratch, bundle),
    mainFormat: "module",
    executable: base,
    output: unfinished,
    disableExperimentalSEAWarning: true,
    // A code cache would save a hundredth of a second at the start, and no two builds would be the same.
    useCodeCache: false,
    execArgv: launcherFlags(),
    // Nobody adds to them, NODE_OPTIONS included.
    execArgvExtension: "none",
  };
  writeFileSync(settings, JSON.stringify(content));
  execFileSync(node, ["--build-sea", settings], { cwd: scratch, stdio: ["ignore", "ignore", "inherit"] });
}

/** What bin/newleaf-agent tells Node (and why) is written once. */
function launcherFlags(): readonly string[] {
  const launcher = readFileSync(join(root, "bin", "newleaf-agent"), "utf8");
  const flags = /"\$here\/bin\/node" (?<flags>.*?)"\$here\/agent-client\/main\.ts"/.exec(launcher)?.groups?.["flags"];
  if (flags === undefined) throw new Error("bin/newleaf-agent has a new form; teach build-agent.ts to read its flags");
  return flags.split(" ").filter((flag) => flag !== "");
}
