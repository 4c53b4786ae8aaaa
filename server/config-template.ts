import { formatDuration } from "@newleaf/shared/duration";
import { stringify } from "yaml";
import { defaultProfiles, type LeafProfile } from "./ca/profile.ts";

export interface ConfigTemplateValues {
  readonly caName: string;
  readonly hosts: readonly string[];
  readonly publicUrl: string;
}

/** The newleaf.yml that `init` writes: every key with its default, and what it is for. */
export function configTemplate(values: ConfigTemplateValues): string {
  return `# Newleaf: configuration of the service.
# Every key is here with its default. Each can be overridden from the environment: listen.agents is NEWLEAF_LISTEN_AGENTS,
# metrics.perIdentityMax is NEWLEAF_METRICS_PER_IDENTITY_MAX; lists are comma-separated, null is off.
# Durations read like 30d, 12h, 15m, 90s. Unknown keys are refused. Check with: newleaf serve --check-config

# Name of the certification authority. It went into the CA certificates at init; changing it here changes no certificate.
caName: ${scalar(values.caName)}

# DNS names and IP addresses under which agents and operators reach the service. Its own certificates always also name
# localhost, 127.0.0.1 and ::1.
hosts: ${list(values.hosts)}

# Where relying parties fetch CRLs and issuer certificates. It is written into every certificate (CRL distribution point, AIA),
# so it has to stay right for as long as they live. Plain http:// on purpose (RFC 5280 §8).
publicUrl: ${scalar(values.publicUrl)}

# One listener per level of trust, host:port; port 0 takes any free one and prints it at start. public and ops may be null: off.
listen:
  agents: 127.0.0.1:8443        # mTLS: renewals, reports
  enrollment: 127.0.0.1:8444    # server TLS: first enrollment
  admin: 127.0.0.1:8445         # mTLS, operators only
  public: 127.0.0.1:8080        # plain HTTP: roots, CRLs, issuer certificates
  ops: 127.0.0.1:9464           # plain HTTP: /metrics, /livez, /readyz

tls:
  minVersion: "1.3"             # or "1.2", with ECDHE and AEAD suites only

# The shape of what is issued. validity counts from issuance; notBefore lies backdate earlier, for clocks that run behind.
# keyReuse: true lets a renewal keep its key, and with that gives up noticing a copied one.
# approvals: 2 wants a second, different operator for every enrollment, also by token, approved key or recovery grant.
profiles:
${(["agent", "gateway", "operator"] as const).map((name) => profileTemplate(defaultProfiles[name])).join("\n")}

# When leaves are renewed, in fractions of their life: from \`at\`, each identity at its own point of the following \`spread\`.
renewal:
  at: 0.6667
  spread: 0.1

lineage:
  overlap: 24h                  # how long a superseded leaf still works after its successor's first use (never for renewing)

crl:
  lifetime: 14d                 # nextUpdate: how long the service may be down before verifiers refuse everything
  interval: 1h                  # published this often, and at once on revocation

# A directory on another machine (a mounted share) to which every write goes before it is answered. With it a restored backup
# forgets nothing: no revocation, no serial, no spent token. null is off, and \`newleaf doctor\` says so.
journal: null

backup:
  schedule: "17 3 * * *"        # cron; null is off
  directory: null               # absolute path; null is backups/ in the data directory, which a lost disk takes along
  keep: 7
  recipients: []                # age recipients (age1...): then backups are encrypted, and hold the issuing keys too

# Where the end of the audit chain is written, signed, so that a cut-off or rewritten log shows.
audit:
  checkpoints:
    interval: 1h
    file: null                  # absolute path, on another machine at best
    syslog: null                # udp://host:514 or tcp://host:601

retention:
  expired: 400d                 # how long certificates are kept after their end; null keeps them for ever. Audit rows always stay

metrics:
  perIdentityMax: 1000          # series of each metric with an identity; the most urgent ones are kept

changes:
  maxHeld: 2000                 # polls of the change feed held open at once; further agents are told to come back

log:
  level: info                   # debug, info, warn, error
`;
}

function profileTemplate(profile: LeafProfile): string {
  return `  ${profile.name}:
    validity: ${formatDuration(profile.validity)}
    backdate: ${formatDuration(profile.backdate)}
    keyReuse: ${profile.keyReuse}
    approvals: ${profile.approvals}
    keys: ${list(profile.keys)}`;
}

function scalar(text: string): string {
  return stringify(text, { lineWidth: 0 }).trimEnd();
}

function list(items: readonly string[]): string {
  return `[${items.map((item) => JSON.stringify(item)).join(", ")}]`;
}
