import type { Material } from "../../agent-client/install/material.ts";
import type { CrlOptions, LeafOptions, TestAuthority } from "./test-ca.ts";

export interface TestPki {
  readonly root: TestAuthority;
  readonly intermediate: TestAuthority;
}

export interface MaterialOptions {
  readonly leaf?: LeafOptions;
  readonly rootCrl?: CrlOptions;
  readonly crl?: CrlOptions;
}

/** A complete, good set of a test CA with a new leaf and key. */
export function makeMaterial({ root, intermediate }: TestPki, options: MaterialOptions = {}): Material {
  const leaf = intermediate.issue(options.leaf);
  return {
    key: leaf.key,
    leaf: leaf.certificate,
    chain: [intermediate.certificate],
    roots: [root.certificate],
    issuers: [intermediate.certificate],
    crls: [root.crl(options.rootCrl), intermediate.crl(options.crl)],
  };
}
