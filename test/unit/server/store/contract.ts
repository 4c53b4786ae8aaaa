/** What every adapter of the store must do, whatever database is below. */
import { issuanceContract } from "./contract/issuance.ts";
import { lineageContract } from "./contract/lineages.ts";
import type { OpenStore } from "./contract/suite.ts";

export function storeContract(open: OpenStore): void {
  issuanceContract(open);
  lineageContract(open);
}
