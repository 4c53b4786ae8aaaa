/** Gauges that mirror the store, read at each scrape. Series per identity are bounded, the most urgent first; the counts are exact. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Authority } from "../authority/authority.ts";
import { whyNotReady } from "../authority/status/readiness.ts";
import type { Metrics } from "../metrics.ts";

const day = 86_400_000;
const expiringWithin = { "1d": day, "3d": 3 * day, "7d": 7 * day, "14d": 14 * day };

export async function fillMetrics(authority: Authority, metrics: Metrics): Promise<void> {
  await fillCertificates(authority, metrics);
  await fillStandings(authority, metrics);
  fillIssuers(authority, metrics);
  metrics.ready.set((await whyNotReady(authority)).length === 0 ? 1 : 0);
}

async function fillCertificates({ store, clock, config, herd }: Authority, metrics: Metrics): Promise<void> {
  const now = clock.now();
  const perIdentity = config.metrics.perIdentityMax;
  metrics.notAfter.reset();
  for (const leaf of await store.listInForce(perIdentity)) {
    metrics.notAfter.set({ identity: leaf.identity, profile: leaf.profile }, leaf.notAfter / 1000);
  }
  for (const [within, ms] of Object.entries(expiringWithin))
    metrics.expiring.set({ within }, await store.countInForceBefore(now + ms, now));
  metrics.certificates.reset();
  for (const { state, profile, count } of await store.countCertificates(now))
    metrics.certificates.set({ state, profile }, count);
  metrics.overdue.set(await store.countOverdue(now));
  metrics.unconfirmed.set(await store.countUnconfirmed(now - day));
  metrics.locked.set(await store.countLockedLineages());
  metrics.admissionWaiting.set({ line: "renewals" }, herd.renewals.waiting());
  metrics.admissionWaiting.set({ line: "enrollments" }, herd.enrollments.waiting());
  metrics.pausedClients.set(herd.pauses.count());
  metrics.pendingApprovals.set(await store.countPendingRequests(now));
}

/** Of what is served wrongly, every host that does so comes before those that do not; of the rest, the longest silent first. */
async function fillStandings({ store, config, clock }: Authority, metrics: Metrics): Promise<void> {
  for (const gauge of [metrics.servedMismatch, metrics.lastSeen, metrics.clockSkew]) gauge.reset();
  const max = config.metrics.perIdentityMax;
  const shown = new Set<string>();
  for (const { identity } of await store.listMismatches(clock.now() + 1, max)) {
    shown.add(identity);
    metrics.servedMismatch.set({ identity }, 1);
  }
  for (const standing of await store.listStandings(max)) {
    const { identity } = standing;
    if (shown.size < max && !shown.has(identity)) {
      shown.add(identity);
      metrics.servedMismatch.set({ identity }, standing.mismatch ? 1 : 0);
    }
    metrics.lastSeen.set({ identity }, standing.lastSeenAt / 1000);
    if (standing.clockSkew !== null) metrics.clockSkew.set({ identity }, standing.clockSkew / 1000);
  }
}

function fillIssuers({ issuers, config }: Authority, metrics: Metrics): void {
  const leafLife = Math.max(config.profiles.agent.validity, config.profiles.gateway.validity);
  for (const row of issuers.rows) {
    metrics.issuerNotAfter.set({ issuer: row.id }, row.notAfter / 1000);
    if (row.kind === "intermediate") metrics.issuerHorizon.set({ issuer: row.id }, (row.notAfter - leafLife) / 1000);
  }
  for (const crl of issuers.crls.values()) {
    metrics.crlThisUpdate.set({ issuer: crl.issuerId }, crl.thisUpdate / 1000);
    metrics.crlNextUpdate.set({ issuer: crl.issuerId }, crl.nextUpdate / 1000);
    metrics.crlNumber.set({ issuer: crl.issuerId }, crl.number);
  }
  metrics.rootKeyPresent.set(existsSync(join(config.dataDir, "offline", "root.key.pem")) ? 1 : 0);
}
