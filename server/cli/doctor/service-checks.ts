/** Checks of how the service is set up to be reached, and of one that runs. */
import { version } from "../../version.ts";
import { failure, type Finding, ok, warning } from "./finding.ts";
import type { Facts } from "./facts.ts";

export function bindings({ configuration: { config } }: Facts): readonly Finding[] | null {
  if (config === null) return null;
  const { listen } = config;
  const findings: Finding[] = [];
  for (const name of ["admin", "ops"] as const) {
    const address = listen[name];
    if (address !== null && !isLoopback(address.host))
      findings.push(
        warning(
          `the ${name} listener is reachable from other hosts (${spell(address)})`,
          name === "admin"
            ? "whoever steals an operator's certificate can use it from anywhere"
            : "it tells strangers which identities there are",
          `bind listen.${name} to 127.0.0.1, or guard it with a firewall`,
        ),
      );
  }
  const local = (["agents", "enrollment", "public"] as const).filter((name) => {
    const address = listen[name];
    return address !== null && isLoopback(address.host);
  });
  const note = local.length === 0 ? "" : `; ${local.join(", ")} on this host only, as it was installed`;
  return findings.length > 0 ? findings : [ok(`admin and ops are not reachable from other hosts${note}`)];
}

export function tlsSettings({ configuration: { config } }: Facts): readonly Finding[] | null {
  if (config === null) return null;
  if (config.tls.minVersion === "TLSv1.3") return [ok("TLS 1.3 only")];
  return [
    warning(
      "TLS 1.2 is switched on",
      "names of clients and servers are sent in the clear there, and no key exchange is safe from later quantum computers",
      'set tls.minVersion to "1.3" when no host needs 1.2 any more',
    ),
  ];
}

export function checkpoints({ configuration: { config } }: Facts): readonly Finding[] | null {
  if (config === null) return null;
  const { file, syslog } = config.audit.checkpoints;
  if (file !== null || syslog !== null)
    return [ok(`audit checkpoints go to ${[file, syslog].filter((to) => to !== null).join(" and ")}`)];
  return [
    warning(
      "audit checkpoints are not written off this host",
      "whoever takes this host over can rewrite the audit log from some row on, and nobody could tell",
      "set audit.checkpoints.syslog or .file in newleaf.yml (docs/audit.md)",
    ),
  ];
}

export function runningAsOnDisk({ service, configuration }: Facts): readonly Finding[] | null {
  if (service === null) return null;
  const findings: Finding[] = [];
  if (!service.alive)
    return [
      failure(
        `run.json names process ${service.pid}, which is gone`,
        "the service died without saying so; commands try to reach it all the same",
        "newleaf serve; its log says what happened",
      ),
    ];
  if (service.version !== null && service.version !== version)
    findings.push(
      warning(
        `version ${service.version} runs, ${version} is installed`,
        "what was mended since is not in force",
        "restart the service",
      ),
    );
  if (service.configuration !== null && configuration.digest !== null && service.configuration !== configuration.digest)
    findings.push(
      warning(
        "newleaf.yml was changed since the service was started",
        "the changes are not in force",
        "newleaf serve --check-config, then restart the service",
      ),
    );
  return findings.length > 0
    ? findings
    : [ok(`process ${service.pid} runs version ${service.version ?? "unknown"} with newleaf.yml as it is`)];
}

export function serviceCertificate({ service, now }: Facts): readonly Finding[] | null {
  if (service === null || !service.alive) return null;
  const { certificate } = service;
  if (certificate === null)
    return [
      failure(
        "the agents listener does not answer",
        "no host can renew",
        "look at the service's log; newleaf serve --check-config",
      ),
    ];
  const { notBefore, notAfter, fault, missing, protocol } = certificate;
  const fix = "restart the service: it makes itself a new one at its start";
  const why = "agents do not talk to a service whose certificate does not hold";
  if (fault !== null) return [failure(`the service's certificate does not hold: ${fault}`, why, fix)];
  const says = `the service's certificate ends ${new Date(notAfter).toISOString()}, ${protocol}`;
  const findings: Finding[] = [];
  if (notAfter - now < (notAfter - notBefore) / 5) findings.push(failure(says, why, fix));
  if (missing.length > 0)
    findings.push(
      warning(`the service's certificate does not name ${missing.join(", ")}`, "hosts that call it so refuse it", fix),
    );
  return findings.length > 0 ? findings : [ok(says)];
}

export function whatTheServiceSays({ service, configuration: { config } }: Facts): readonly Finding[] | null {
  if (service === null || !service.alive) return null;
  const findings: Finding[] = [];
  if (service.ready === null) {
    const why = "nobody is paged when something is wrong";
    if (config?.listen.ops === null) return [warning("the ops listener is off", why, "set listen.ops in newleaf.yml")];
    return [failure("the ops listener does not answer", why, "look at the service's log")];
  }
  if (!service.ready.ok)
    findings.push(
      failure(
        `the service is not ready: ${service.ready.problems.join("; ")}`,
        "nothing is issued",
        "look at the service's log and at the disk",
      ),
    );
  if (service.metrics.get("newleaf_audit_chain_ok") === 0)
    findings.push(
      failure(
        "the audit log is broken",
        "somebody changed it, or the disk did",
        "newleaf audit verify (docs/audit.md)",
      ),
    );
  return findings.length > 0 ? findings : [ok("it is ready, and its audit log holds")];
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || host.startsWith("127.");
}

function spell({ host, port }: { readonly host: string; readonly port: number }): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
