/** Where a leaf is, by the last report of its host: what an operator loses by revoking it. */
import type { AgentReport } from "@newleaf/shared/api";
import type { Store } from "../../store/store.ts";

export interface Place {
  /** Name of the certificate in the host's agent.yml. */
  readonly certificate: string;
  readonly installed: boolean;
  /** Where it was seen served: address and server name of the probe. */
  readonly served: readonly { readonly address: string; readonly serverName: string; readonly at: string }[];
}

/** Tells for one leaf after another; each host's report is read once. */
export function whereabouts(
  store: Pick<Store, "findReport">,
): (leaf: { readonly identity: string; readonly fingerprint: string }) => Promise<readonly Place[]> {
  const reports = new Map<string, Promise<AgentReport | null>>();
  return async ({ identity, fingerprint }) => {
    const asked = reports.get(identity) ?? store.findReport(identity).then((row) => row?.report ?? null);
    reports.set(identity, asked);
    const report = await asked;
    return (report?.certificates ?? []).flatMap((certificate) => {
      const installed = certificate.installed === fingerprint;
      const served = certificate.served
        .filter((seen) => seen.fingerprint === fingerprint)
        .map(({ address, serverName, at }) => ({ address, serverName, at }));
      return installed || served.length > 0 ? [{ certificate: certificate.name, installed, served }] : [];
    });
  };
}
