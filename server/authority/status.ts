/** What an operator should know first: what needs a hand, then how many of what. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Authority } from "./authority.ts";
import { isoTime } from "./issue.ts";

const day = 86_400_000;
/** An agent asks at least hourly. */
const silentAfter = day;
const listed = 20;
const manyStandings = 10_000;

export async function readStatus(authority: Authority): Promise<Record<string, unknown>> {
  const { store, clock, issuers, config } = authority;
  const now = clock.now();
  const standings = await store.listStandings(manyStandings);
  const silent = standings.filter((standing) => now - standing.lastSeenAt > silentAfter);
  const notServed = standings.filter((standing) => standing.mismatch);
  const expiring = (await store.listInForce(listed)).filter((leaf) => leaf.notAfter < now + 7 * day);
  return {
    time: isoTime(now),
    attention: {
      expiringWithin7Days: expiring.map(({ identity, serial, notAfter }) => ({
        identity,
        serial,
        notAfter: isoTime(notAfter),
      })),
      renewalOverdue: await store.countOverdue(now),
      renewalUnconfirmed: await store.countUnconfirmed(now - day),
      installedNotServed: notServed.slice(0, listed).map(({ identity }) => identity),
      silent: silent.slice(0, listed).map(({ identity, lastSeenAt }) => ({ identity, lastSeen: isoTime(lastSeenAt) })),
      lockedLineages: await store.countLockedLineages(),
      approvalsPending: await store.countPendingRequests(now),
      rootKeyOnThisHost: existsSync(join(config.dataDir, "offline", "root.key.pem")),
    },
    certificates: await store.countCertificates(now),
    bundleVersion: issuers.bundle.version,
    issuers: issuers.rows.map((row) => {
      const crl = issuers.crls.get(row.id);
      return {
        id: row.id,
        kind: row.kind,
        state: row.state,
        notAfter: isoTime(row.notAfter),
        crl:
          crl === undefined
            ? null
            : { number: crl.number, thisUpdate: isoTime(crl.thisUpdate), nextUpdate: isoTime(crl.nextUpdate) },
      };
    }),
  };
}
