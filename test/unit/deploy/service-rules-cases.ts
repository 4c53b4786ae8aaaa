/** When each alert on the service comes, and when it does not. Series are promtool's notation, one value a minute from 1970 on. */

export interface AlertCase {
  readonly alert: string;
  /** Series that make it fire, whole. */
  readonly fires: readonly string[];
  /** At this time; and then with these labels and this value as its text shows it. */
  readonly at: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value?: string;
  /** It is not there yet at this time: a passing thing pages nobody. */
  readonly notYetAt?: string;
  /** Series with which it stays quiet, though they come near; also at `quietAt`, where that is not the same time. */
  readonly quiet: readonly string[];
  readonly quietAt?: string;
}

const day = 86_400;
const where = 'instance="ca",job="newleaf"';
const here = { instance: "ca", job: "newleaf" };
const gateway = { ...here, identity: "gw-1", profile: "gateway" };
const leaf = `newleaf_certificate_not_after_timestamp_seconds{${where},identity="gw-1",profile="gateway"}`;
const crl = (what: string): string => `newleaf_crl_${what}_timestamp_seconds{${where},issuer="i1"}`;
const issuer = { ...here, issuer: "i1" };
const failures = `newleaf_tls_handshake_failures_total{${where},listener="agents",reason="expired"}`;
const commits = (le: string): string => `newleaf_store_commit_seconds_bucket{${where},le="${le}"}`;

/** Constant for a number of minutes. */
const steady = (series: string, value: number, minutes = 5000): string => `${series} ${value}x${minutes}`;

export const alertCases: readonly AlertCase[] = [
  {
    alert: "NewleafCertificateExpiring",
    fires: [steady(leaf, 6 * day)],
    at: "61m",
    notYetAt: "30m",
    labels: gateway,
    value: "5d 22h 59m 0s",
    quiet: [steady(leaf, 9 * day)],
  },
  {
    alert: "NewleafCertificateExpiresSoon",
    fires: [steady(leaf, 1.5 * day)],
    at: "20m",
    notYetAt: "5m",
    labels: gateway,
    value: "1d 11h 40m 0s",
    quiet: [steady(leaf, 3 * day)],
  },
  {
    alert: "NewleafCertificateExpired",
    fires: [steady(leaf, 600)],
    at: "11m",
    labels: gateway,
    // Long gone is nobody's outage any more.
    quiet: [steady(leaf, -31 * day)],
  },
  {
    alert: "NewleafManyCertificatesExpiring",
    fires: [steady(`newleaf_certificates_expiring{${where},within="3d"}`, 21)],
    at: "40m",
    notYetAt: "20m",
    labels: { ...here, within: "3d" },
    value: "21",
    quiet: [
      steady(`newleaf_certificates_expiring{${where},within="3d"}`, 20),
      steady(`newleaf_certificates_expiring{${where},within="14d"}`, 5000),
    ],
  },
  {
    alert: "NewleafRenewalOverdue",
    fires: [steady(`newleaf_renewal_overdue{${where}}`, 3)],
    at: "13h",
    notYetAt: "11h",
    labels: here,
    value: "3",
    quiet: [steady(`newleaf_renewal_overdue{${where}}`, 0)],
  },
  {
    alert: "NewleafRenewalUnconfirmed",
    fires: [steady(`newleaf_renewal_unconfirmed{${where}}`, 2)],
    at: "90m",
    notYetAt: "30m",
    labels: here,
    value: "2",
    quiet: [steady(`newleaf_renewal_unconfirmed{${where}}`, 0)],
  },
  {
    alert: "NewleafServedMismatch",
    fires: [steady(`newleaf_served_mismatch{${where},identity="gw-1"}`, 1)],
    at: "40m",
    notYetAt: "20m",
    labels: { ...here, identity: "gw-1" },
    // The minutes of a normal renewal.
    quiet: [`newleaf_served_mismatch{${where},identity="gw-1"} 0x10 1x10 0x500`],
  },
  {
    alert: "NewleafAgentNotHeardOf",
    fires: [steady(`newleaf_agent_last_seen_timestamp_seconds{${where},identity="gw-1"}`, 0)],
    at: "25h",
    notYetAt: "24h",
    labels: { ...here, identity: "gw-1" },
    value: "1d 1h 0m 0s",
    quiet: [`newleaf_agent_last_seen_timestamp_seconds{${where},identity="gw-1"} 0+60x5000`],
  },
  {
    alert: "NewleafClockSkew",
    fires: [steady(`newleaf_agent_clock_skew_seconds{${where},identity="gw-1"}`, -180)],
    at: "20m",
    notYetAt: "10m",
    labels: { ...here, identity: "gw-1" },
    value: "3m 0s",
    quiet: [steady(`newleaf_agent_clock_skew_seconds{${where},identity="gw-1"}`, 100)],
  },
  {
    alert: "NewleafLineageLocked",
    fires: [steady(`newleaf_lineages_locked{${where}}`, 1)],
    at: "1m",
    labels: here,
    value: "1",
    quiet: [steady(`newleaf_lineages_locked{${where}}`, 0)],
  },
  {
    alert: "NewleafStaleUse",
    fires: [`newleaf_lineage_stale_uses_total{${where}} 0x10 1x500`],
    at: "40m",
    notYetAt: "20m",
    labels: here,
    quiet: [steady(`newleaf_lineage_stale_uses_total{${where}}`, 4)],
  },
  {
    alert: "NewleafForeignName",
    fires: [`newleaf_refused_total{${where},code="names-not-permitted"} 0x10 1x500`],
    at: "20m",
    labels: { ...here, code: "names-not-permitted" },
    quiet: [
      steady(`newleaf_refused_total{${where},code="names-not-permitted"}`, 3),
      `newleaf_refused_total{${where},code="key-reused"} 0x10 1x500`,
    ],
  },
  {
    alert: "NewleafApprovalsWaiting",
    fires: [steady(`newleaf_approvals_pending{${where}}`, 2)],
    at: "5h",
    notYetAt: "3h",
    labels: here,
    value: "2",
    quiet: [steady(`newleaf_approvals_pending{${where}}`, 0)],
  },
  {
    alert: "NewleafPausedClients",
    fires: [steady(`newleaf_paused_clients{${where}}`, 1)],
    at: "2h",
    notYetAt: "30m",
    labels: here,
    value: "1",
    quiet: [steady(`newleaf_paused_clients{${where}}`, 0)],
  },
  {
    alert: "NewleafDown",
    fires: [steady(`up{${where}}`, 0)],
    at: "6m",
    notYetAt: "4m",
    labels: here,
    quiet: [steady(`up{${where}}`, 1), steady('up{instance="other",job="node"}', 0)],
  },
  {
    alert: "NewleafNotReady",
    fires: [steady(`newleaf_ready{${where}}`, 0)],
    at: "3m",
    notYetAt: "1m",
    labels: here,
    quiet: [steady(`newleaf_ready{${where}}`, 1)],
  },
  {
    alert: "NewleafCommitSlow",
    fires: [`${commits("0.5")} 0x500`, `${commits("1")} 0+60x500`, `${commits("+Inf")} 0+60x500`],
    at: "30m",
    notYetAt: "10m",
    labels: here,
    value: "995ms",
    quiet: [`${commits("0.01")} 0+60x500`, `${commits("1")} 0+60x500`, `${commits("+Inf")} 0+60x500`],
  },
  {
    alert: "NewleafFaults",
    fires: [`newleaf_refused_total{${where},code="internal"} 0x10 5x500`],
    at: "18m",
    notYetAt: "12m",
    labels: { ...here, code: "internal" },
    quiet: [
      steady(`newleaf_refused_total{${where},code="internal"}`, 5),
      `newleaf_refused_total{${where},code="token-invalid"} 0+5x500`,
    ],
  },
  {
    alert: "NewleafHandshakeFailuresRising",
    fires: [`${failures} 0+2x5000`],
    at: "40m",
    notYetAt: "20m",
    labels: { ...here, listener: "agents", reason: "expired" },
    value: "30",
    // As many as the day before.
    quiet: [`${failures} 0+2x5000`],
    quietAt: "25h",
  },
  {
    alert: "NewleafCrlOld",
    fires: [steady(crl("this_update"), 0), steady(crl("next_update"), 14 * day)],
    at: "4h",
    notYetAt: "3h10m",
    labels: issuer,
    value: "4h 0m 0s",
    // Of a root, which is made at a ceremony.
    quiet: [steady(crl("this_update"), 0), steady(crl("next_update"), 1000 * day)],
  },
  {
    alert: "NewleafCrlEnds",
    fires: [steady(crl("next_update"), day)],
    at: "10m",
    notYetAt: "3m",
    labels: issuer,
    value: "23h 50m 0s",
    quiet: [steady(crl("next_update"), 14 * day)],
  },
  {
    alert: "NewleafRootCrlEnds",
    fires: [steady(crl("this_update"), -1000 * day), steady(crl("next_update"), 50 * day)],
    at: "2h",
    notYetAt: "30m",
    labels: issuer,
    value: "49d 22h 0m 0s",
    quiet: [steady(crl("this_update"), 0), steady(crl("next_update"), 14 * day)],
  },
  {
    alert: "NewleafIssuerHorizon",
    fires: [steady(`newleaf_issuer_horizon_timestamp_seconds{${where},issuer="i1"}`, 50 * day)],
    at: "2h",
    notYetAt: "30m",
    labels: issuer,
    value: "49d 22h 0m 0s",
    quiet: [steady(`newleaf_issuer_horizon_timestamp_seconds{${where},issuer="i1"}`, 70 * day)],
  },
  {
    alert: "NewleafIssuerEnds",
    fires: [steady(`newleaf_issuer_not_after_timestamp_seconds{${where},issuer="i1"}`, 20 * day)],
    at: "2h",
    notYetAt: "30m",
    labels: issuer,
    value: "19d 22h 0m 0s",
    quiet: [steady(`newleaf_issuer_not_after_timestamp_seconds{${where},issuer="i1"}`, 90 * day)],
  },
  {
    alert: "NewleafAuditChainBroken",
    fires: [steady(`newleaf_audit_chain_ok{${where}}`, 0)],
    at: "1m",
    labels: here,
    quiet: [steady(`newleaf_audit_chain_ok{${where}}`, 1)],
  },
  {
    alert: "NewleafBackupOld",
    fires: [steady(`newleaf_backup_last_success_timestamp_seconds{${where}}`, 0)],
    at: "50h",
    notYetAt: "48h",
    labels: here,
    value: "2d 2h 0m 0s",
    quiet: [`newleaf_backup_last_success_timestamp_seconds{${where}} 0+60x5000`],
  },
  {
    alert: "NewleafRootKeyPresent",
    fires: [steady(`newleaf_root_key_present{${where}}`, 1)],
    at: "73h",
    notYetAt: "71h",
    labels: here,
    quiet: [steady(`newleaf_root_key_present{${where}}`, 0)],
  },
  {
    alert: "NewleafTurnedAway",
    fires: [`newleaf_admission_turned_away_total{${where},reason="full"} 0+10x500`],
    at: "50m",
    notYetAt: "20m",
    labels: here,
    quiet: [`newleaf_admission_turned_away_total{${where},reason="full"} 0x10 50x500`],
  },
];
