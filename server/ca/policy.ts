import { allNames, noNames, parseDnsName, parseIpAddress, type Names } from "@newleaf/shared/names";
import { AppError } from "@newleaf/shared/problems";
import type { ParsedCsr } from "./csr.ts";
import type { LeafProfile } from "./profile.ts";

export interface NamesQuestion {
  readonly csr: Pick<ParsedCsr, "commonName" | "names">;
  readonly identity: { readonly id: string; readonly names: Names };
  /** In a renewal: the names of the leaf that was presented. */
  readonly presented?: Names;
}

/** In the order in which a refusal lists them. */
const kinds = ["dns", "ip", "uri", "email"] as const satisfies readonly (keyof Names)[];

/**
 * What the host asks for, held against what the inventory gives it. Asking for nothing or for a part is asking for the whole entry.
 * @returns `dropped`: asked for and in the presented leaf, but no longer in the inventory; left out and to be audited
 * @throws AppError `names-not-permitted`
 */
export function checkNames({ csr, identity, presented = noNames }: NamesQuestion): { readonly dropped: string[] } {
  const dropped = new Set<string>();
  const refused = new Set<string>();
  for (const kind of kinds) {
    for (const name of csr.names[kind]) {
      if (identity.names[kind].includes(name)) continue;
      (presented[kind].includes(name) ? dropped : refused).add(name);
    }
  }
  const commonName = csr.commonName;
  if (commonName !== null && commonName !== identity.id && !isOneOf(commonName, identity.names)) {
    (isOneOf(commonName, presented) ? dropped : refused).add(commonName);
  }
  if (refused.size > 0) {
    const list = [...refused]
      .slice(0, 5)
      .map((name) => JSON.stringify(name.slice(0, 100)))
      .join(", ");
    const more = refused.size > 5 ? ` and ${refused.size - 5} more` : "";
    throw new AppError(
      "names-not-permitted",
      `The request asks for ${list}${more}, which ${identity.id} does not hold; ask without them, or have an operator add them`,
    );
  }
  return { dropped: [...dropped] };
}

/**
 * @throws AppError `key-not-acceptable`
 */
export function checkKey(csr: Pick<ParsedCsr, "algorithm">, profile: Pick<LeafProfile, "name" | "keys">): void {
  if (profile.keys.includes(csr.algorithm)) return;
  throw new AppError(
    "key-not-acceptable",
    `The profile ${profile.name} does not accept ${csr.algorithm}; make a key of ${profile.keys.join(", ")}`,
  );
}

/** A CN is free text: it is one of the names if its canonical spelling is. */
function isOneOf(commonName: string, names: Names): boolean {
  return (
    allNames(names).includes(commonName) ||
    names.dns.includes(spelled(parseDnsName, commonName)) ||
    names.ip.includes(spelled(parseIpAddress, commonName))
  );
}

function spelled(parse: (text: string) => string, text: string): string {
  try {
    return parse(text);
  } catch {
    return text;
  }
}
