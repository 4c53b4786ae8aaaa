/** From what a target asks for, through templates and passphrase as they are now, to the bytes of each file. */
import { createHash, createHmac, type KeyObject, X509Certificate } from "node:crypto";
import { join } from "node:path";
import { fingerprint } from "@newleaf/shared/fingerprint";
import { keyStore, passphraseProblem, trustStore } from "@newleaf/shared/pkcs12";
import { readGuarded, readSecretLine } from "../guarded-open.ts";
import type { FileName, Material, OutputName, PemFile } from "./material.ts";
import { authoritiesOf, renderFiles } from "./render.ts";
import { explained, InstallError, type Target } from "./target.ts";
import { factsFor, maxTemplateBytes, parseTemplate, renderTemplate, type Template } from "./template.ts";

/** What makes the files besides the set itself. Read anew each time: an operator may edit it. */
export interface Recipe {
  readonly templates: readonly { readonly name: OutputName; readonly template: Template; readonly sha256: string }[];
  readonly stores: { readonly passphrase: string; readonly alias: string } | null;
  /** The target's files, and those that only its templates show: what has to be at hand. */
  readonly needs: readonly FileName[];
}

const maxPassphraseFileBytes = 4096;

/** @throws InstallError naming the file and what is wrong with it */
export async function readRecipe(target: Target): Promise<Recipe> {
  const templates = await Promise.all(
    (target.templates ?? []).map(async ({ from, name }) => {
      const { data } = await readNamed(from, "the template", () => readGuarded(from, maxTemplateBytes));
      return { name, template: parseTemplate(data, from), sha256: sha256(data) };
    }),
  );
  const { stores } = target;
  const shown = templates.flatMap(({ template }) => [...template.uses]);
  return {
    templates,
    stores:
      stores === undefined ? null : { passphrase: await readPassphrase(stores.passphraseFile), alias: stores.alias },
    needs: [...new Set<FileName>([...target.files, ...shown])],
  };
}

/**
 * Says when files would come out differently although the set is the same; undefined when only the set decides. It is written
 * where others may read it, so it is keyed: nobody can try passphrases against it.
 * @param key the private key of the set
 */
export function digestOf(recipe: Recipe, key: KeyObject): string | undefined {
  if (recipe.templates.length === 0 && recipe.stores === null) return undefined;
  const templates = recipe.templates.map(({ name, sha256: digest }) => [name, digest]);
  const secret = key.export({ type: "pkcs8", format: "der" });
  const all = JSON.stringify([templates, recipe.stores?.passphrase ?? null, recipe.stores?.alias ?? null]);
  return createHmac("sha256", secret).update(`newleaf recipe ${all}`).digest("hex").slice(0, 32);
}

/** Says when a recipe has become another one. For memory only: it is not keyed. */
export function editionOf(recipe: Recipe | null): string {
  const templates = recipe?.templates.map(({ name, sha256: digest }) => [name, digest]) ?? [];
  return sha256(Buffer.from(JSON.stringify([templates, recipe?.stores ?? null, recipe === null])));
}

/** The bytes of each file of the target. @param identity whom the leaf names, for templates @throws InstallError */
export async function renderOutputs(
  target: Target,
  recipe: Recipe,
  material: Material,
  identity: string,
): Promise<ReadonlyMap<FileName, Buffer>> {
  const files = renderFiles(material, target.files);
  if (recipe.stores !== null) {
    const { passphrase, alias } = recipe.stores;
    const protection = { passphrase, seed: material.key };
    const { key, leaf, chain } = material;
    if (target.files.includes("keystore.p12"))
      files.set("keystore.p12", await keyStore({ alias, key, certificates: [leaf, ...chain] }, protection));
    if (target.files.includes("truststore.p12"))
      files.set("truststore.p12", await trustStore(authoritiesOf(material), protection));
  }
  const values = {
    ...factsFor(new X509Certificate(material.leaf), {
      fingerprint: fingerprint(material.leaf),
      identity,
      directory: join(target.directory, "current"),
    }),
    pem: (file: PemFile) => renderFiles(material, [file]).get(file)?.toString("utf8") ?? "",
  };
  for (const { name, template } of recipe.templates) files.set(name, renderTemplate(template, values));
  return files;
}

/** The first line of a file that others cannot read. @throws InstallError that never shows what is in it */
async function readPassphrase(path: string): Promise<string> {
  const what = "the passphrase file";
  const line = await readNamed(path, what, () => readSecretLine(path, what, maxPassphraseFileBytes));
  const problem = passphraseProblem(line);
  if (problem !== null) throw new InstallError(`the first line of the passphrase file ${path} ${problem}`);
  return line;
}

async function readNamed<T>(path: string, what: string, read: () => Promise<T>): Promise<T> {
  try {
    return await explained(`reading ${what} ${path}`, read);
  } catch (error) {
    if (!(error instanceof InstallError) || error.code !== "ENOENT") throw error;
    throw new InstallError(`${what} ${path} is not there: make it, or correct its path in agent.yml`, error);
  }
}

function sha256(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}
