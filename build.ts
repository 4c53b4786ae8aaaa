/**
 * `npm run build [-- DIRECTORY]`: makes what users install. dist/ (or the empty directory named) then holds the three packages as directories and as the tarballs of `npm pack`:
 * plain JavaScript with types, no development dependencies, no install scripts. Service and agent carry @newleaf/shared inside,
 * so that each tarball installs alone.
 */
import { execFileSync } from "node:child_process";
import { chmodSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

interface Product {
  /** Its folder in the checkout. */
  readonly source: string;
  /** Its folder in dist/. */
  readonly name: string;
  /** The launcher in bin/ that becomes the package's program. */
  readonly program?: string;
  /** Folders of the checkout that it reads at run time. */
  readonly carries?: readonly string[];
}

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly [field: string]: unknown;
}

const shared: Product = { source: "shared", name: "shared" };
const programs: readonly Product[] = [
  { source: "server", name: "server", program: "newleaf", carries: ["migrations"] },
  { source: "agent-client", name: "agent", program: "newleaf-agent" },
];

const root = import.meta.dirname;
const dist = makeOutput(process.argv[2]);
const compiled = join(dist, "compiled");

compile();
assemble(shared);
for (const product of programs) {
  assemble(product);
  cpSync(join(dist, shared.name), join(dist, product.name, "node_modules", "@newleaf", "shared"), { recursive: true });
}
rmSync(compiled, { recursive: true });
for (const { name } of [shared, ...programs]) process.stdout.write(`${join(dist, pack(name))}\n`);

/** Only dist/ is emptied, and not of what `build:agent` made; a directory that somebody named must hold nothing we would have to remove. */
function makeOutput(named: string | undefined): string {
  const directory = resolve(named ?? join(root, "dist"));
  mkdirSync(directory, { recursive: true });
  const found = readdirSync(directory);
  if (named === undefined)
    for (const name of found) if (name !== "newleaf-agent") rmSync(join(directory, name), { recursive: true });
  if (named !== undefined && found.length > 0) throw new Error(`${directory} is not empty; name another directory`);
  return directory;
}

/** Every package at once, so that imports between them are checked against the sources. */
function compile(): void {
  const compiler = join(root, "node_modules", "typescript", "bin", "tsc");
  execFileSync(process.execPath, [compiler, "-p", "tsconfig.build.json", "--outDir", compiled], {
    cwd: root,
    stdio: "inherit",
  });
}

function assemble({ source, name, program, carries = [] }: Product): void {
  const to = join(dist, name);
  cpSync(join(compiled, source), to, { recursive: true });
  for (const folder of carries) cpSync(join(root, folder), join(to, folder), { recursive: true });
  cpSync(join(root, "LICENSE"), join(to, "LICENSE"));
  cpSync(join(root, source, "README.md"), join(to, "README.md"));
  if (program !== undefined) writeLauncher(program, to);
  const manifest = JSON.parse(readFileSync(join(root, source, "package.json"), "utf8")) as Manifest;
  writeFileSync(join(to, "package.json"), `${JSON.stringify(packedManifest(manifest, program), null, 2)}\n`);
}

/** The checkout's launcher with the installed places in it: what it tells Node (and why) is written once. */
function writeLauncher(program: string, to: string): void {
  const launcher = readFileSync(join(root, "bin", program), "utf8")
    .replace('"$here/bin/node"', '"${NEWLEAF_NODE:-node}"')
    .replace(/"\$here\/[a-z-]+\/main\.ts"/, '"$here/main.js"');
  if (!launcher.includes("NEWLEAF_NODE") || !launcher.includes("main.js")) {
    throw new Error(`bin/${program} no longer starts "$here/bin/node" … main.ts; teach build.ts its new form`);
  }
  mkdirSync(join(to, "bin"));
  writeFileSync(join(to, "bin", program), launcher);
  chmodSync(join(to, "bin", program), 0o755);
}

/** What users need of a manifest. A program's package bundles the shared one instead of asking the registry for it. */
function packedManifest(manifest: Manifest, program: string | undefined): Record<string, unknown> {
  const { devDependencies: _development, scripts: _scripts, ...kept } = manifest;
  return {
    ...kept,
    exports: { "./package.json": "./package.json", "./*": { types: "./*.d.ts", default: "./*.js" } },
    ...(program === undefined ? {} : { bin: { [program]: `bin/${program}` }, bundleDependencies: ["@newleaf/shared"] }),
  };
}

/** @returns the tarball's name in dist/ */
function pack(name: string): string {
  const output = execFileSync("npm", ["pack", "--silent", "--json", "--pack-destination", dist, join(dist, name)], {
    cwd: dist,
    encoding: "utf8",
  });
  const packed = JSON.parse(output) as { filename: string }[] | Record<string, { filename: string }>;
  const [first] = Object.values(packed);
  if (first === undefined) throw new Error(`npm pack made no tarball of ${name}`);
  return first.filename;
}
