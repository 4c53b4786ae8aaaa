/** What there is, until when, whether it is served, what comes next and what stands in the way. Changes nothing. */
import { join } from "node:path";
import { adviceFor, workWords } from "./advice.ts";
import type { AgentConfig, CertificateConfig } from "../config/config.ts";
import { leafHold } from "../decide/choice.ts";
import { type Installed, readInstalled } from "../install/installed.ts";
import { newestLeaf } from "../decide/leaves.ts";
import { type Journal, readJournal, retryKinds } from "../journal.ts";
import { lockHolder } from "../lock.ts";
import { announcedOf, nextOf, quarantineOf, stateOf, withDisk } from "./outlook.ts";
import { probeOnce } from "../probe/probe.ts";
import { describe } from "../reload/drivers.ts";
import type { AgentStatus, CertificateStatus, ServedState } from "./shape.ts";
import { canaryLine, healthLine, isNotEnforced, readProofs } from "./proofs.ts";
import { readSystemTrust } from "../trust/system-trust.ts";
import { readTrust, type Trust } from "../trust/trust-store.ts";

const probeTimeoutMs = 3000;
const minute = 60_000;

/** Reads state and disk and makes one handshake for each probe. @throws Error when the state is damaged or not readable */
export async function readStatus(config: AgentConfig, now: number): Promise<AgentStatus> {
  const trust = await readTrust(config.state, now);
  return {
    running: await lockHolder(config.state).catch(() => null),
    clock: iso(now),
    bundleVersion: trust.version,
    systemTrust: await systemTrustOf(config),
    crls: crlsOf(trust),
    certificates: await Promise.all(config.certificates.map((certificate) => readOne(config, certificate, trust, now))),
  };
}

async function readOne(
  config: AgentConfig,
  certificate: CertificateConfig,
  trust: Trust,
  now: number,
): Promise<CertificateStatus> {
  const journal = await readJournal(join(config.state, certificate.name));
  // That it cannot be read is among the failures.
  const installed = await readInstalled(certificate.target).catch(() => null);
  const newest = newestLeaf(journal);
  const [served, proofs] = await Promise.all([
    seen(certificate, installed, journal),
    readProofs(config, certificate, { journal, trust, now }),
  ]);
  const { beforeSwitch } = certificate;
  const hold = leafHold({ now, journal, desired: newest, installed, revoked: false, beforeSwitch });
  const state = stateOf(journal, isNotEnforced(proofs) ? "not-served" : served.state, hold, now);
  return {
    name: certificate.name,
    ...withDisk({ state, next: nextOf(journal, hold, now) }, installed?.complete === false, now),
    identity: newest?.identity ?? null,
    serial: newest?.serial ?? null,
    fingerprint: newest?.fingerprint ?? null,
    lineage: newest?.lineage ?? null,
    generation: newest?.generation ?? null,
    notBefore: newest === null ? null : iso(newest.notBefore),
    notAfter: newest === null ? null : iso(newest.notAfter),
    step: journal.step,
    installed:
      installed === null
        ? null
        : { fingerprint: installed.fingerprint, version: installed.version, problems: installed.problems },
    served,
    ...proofs,
    reload: describe(certificate.reload),
    announced: announcedOf(journal, hold),
    quarantine: quarantineOf(journal, now),
    failures: failuresOf(journal, now),
  };
}

async function seen(
  certificate: CertificateConfig,
  installed: Installed | null,
  journal: Journal,
): Promise<CertificateStatus["served"]> {
  const answers = await Promise.all(
    certificate.probes.map(async (probe) => {
      const answer = await probeOnce({ ...probe, timeoutMs: probeTimeoutMs });
      const failed = "error" in answer;
      return {
        address: probe.connect,
        fingerprint: failed ? null : answer.fingerprint,
        error: failed ? answer.error : null,
        reachable: failed ? answer.reachable : true,
      };
    }),
  );
  const isServed = installed !== null && answers.every((answer) => answer.fingerprint === installed.fingerprint);
  const state: ServedState =
    answers.length === 0
      ? "not-probed"
      : isServed
        ? "served"
        : answers.some((answer) => !answer.reachable)
          ? "unreachable"
          : "not-served";
  return {
    state,
    seen: answers.map(({ address, fingerprint, error }) => ({ address, fingerprint, error })),
    lastProvedAt: journal.served === null ? null : iso(journal.served.at),
  };
}

function failuresOf(journal: Journal, now: number): CertificateStatus["failures"] {
  return retryKinds.flatMap((work) => {
    const { error, notBefore, failures } = journal.retries[work];
    if (error === null) return [];
    const { step, code, message } = error;
    return [
      {
        work,
        step,
        code,
        message,
        at: iso(error.at),
        retryAt: iso(Math.max(notBefore, now)),
        failures,
        advice: adviceFor(code),
      },
    ];
  });
}

async function systemTrustOf({ systemTrust, state }: AgentConfig): Promise<AgentStatus["systemTrust"]> {
  if (systemTrust === null) return null;
  const record = await readSystemTrust(state);
  const failure = record?.failure ?? null;
  return {
    directory: systemTrust.directory,
    done: record !== null && record.taken !== null && record.directory === systemTrust.directory,
    failure:
      failure === null ? null : { message: failure.message, at: iso(failure.at), retryAt: iso(failure.notBefore) },
  };
}

function systemTrustLine({ directory, done, failure }: NonNullable<AgentStatus["systemTrust"]>): string {
  const how = done ? "has the roots of the bundle" : "has not taken in the roots yet";
  const trouble = failure === null ? "" : `; FAILED at ${failure.at}: ${failure.message}; again at ${failure.retryAt}`;
  return `system trust store (${directory}) ${how}${trouble}`;
}

function crlsOf(trust: Trust): AgentStatus["crls"] {
  return [...trust.crls].map(([issuer, crl]) => ({ issuer, number: crl.number, nextUpdate: iso(crl.nextUpdate) }));
}

/** For people: short lines, the worst first. */
export function formatStatus(status: AgentStatus): string {
  const now = Date.parse(status.clock);
  const lines = [status.running ?? "no agent is running: certificates will not renew by themselves"];
  for (const certificate of status.certificates) {
    lines.push("", `${certificate.name}: ${certificate.state.toUpperCase()}`);
    if (certificate.notAfter !== null) {
      lines.push(
        `  holds    ${certificate.identity}, serial ${certificate.serial}, generation ${certificate.generation}`,
      );
      lines.push(`  until    ${certificate.notAfter} (${span(Date.parse(certificate.notAfter) - now)})`);
    }
    lines.push(`  disk     ${diskLine(certificate)}`, `  served   ${servedLine(certificate)}`);
    const health = healthLine(certificate.health);
    if (health !== null) lines.push(`  health   ${health}`);
    const canaries = canaryLine(certificate.canaries);
    if (canaries !== null) lines.push(`  canary   ${canaries}`);
    const { announced, quarantine } = certificate;
    if (announced !== null) {
      const how = announced.at === null ? "could not be announced yet" : `was announced at ${announced.at}`;
      const when = `${announced.switchesAt} (${span(Date.parse(announced.switchesAt) - now)})`;
      lines.push(`  pins     ${announced.fingerprint} ${how}; switches at ${when}`);
    }
    if (quarantine !== null) lines.push(`  back     ${quarantine.row} since ${quarantine.since}: ${quarantine.detail}`);
    const { action, at } = certificate.next;
    lines.push(`  next     ${action}${at === null ? "" : ` at ${at} (${span(Date.parse(at) - now)})`}`);
    for (const [index, failure] of certificate.failures.entries()) {
      lines.push(
        `  failed   ${workWords[failure.work]} at ${failure.at}, ${failure.failures}×: ${failure.code}: ${failure.message}`,
      );
      lines.push(`           again at ${failure.retryAt} (${span(Date.parse(failure.retryAt) - now)})`);
      // One cause often stops several works: what to do stands once, after the last of them.
      const isLast = certificate.failures[index + 1]?.advice !== failure.advice;
      if (failure.advice !== null && isLast) lines.push(`           do: ${failure.advice}`);
    }
  }
  const crls = status.crls.map((crl) => `${crl.issuer} number ${crl.number} until ${crl.nextUpdate}`);
  lines.push("", `trust bundle ${status.bundleVersion}; CRLs: ${crls.length === 0 ? "none" : crls.join(", ")}`);
  if (status.systemTrust !== null) lines.push(systemTrustLine(status.systemTrust));
  return `${lines.join("\n")}\n`;
}

function diskLine({ installed, fingerprint }: CertificateStatus): string {
  if (installed === null) return "nothing installed";
  const which =
    installed.fingerprint === fingerprint ? "this certificate" : `another certificate (${installed.fingerprint})`;
  return `${which}, version ${installed.version}${installed.problems.length === 0 ? "" : `; ${installed.problems.join("; ")}`}`;
}

function servedLine({ served, reload, installed, fingerprint, failures }: CertificateStatus): string {
  if (served.state === "not-probed") return "not probed (probe: none)";
  if (served.state === "served") {
    const what = installed?.fingerprint === fingerprint ? "yes" : "yes, what is on disk";
    // One handshake is no proof: the state above stays what it is until a whole pass was made.
    const unproved = failures.some(({ work }) => work === "serve") ? "; the next pass has to prove it" : "";
    return `${what}, seen just now at ${served.seen.map((one) => one.address).join(", ")}${unproved}`;
  }
  const what = served.seen.map((one) => one.error ?? `${one.address}: presents ${one.fingerprint}`);
  return `NO: ${what.join("; ")}. Reload: ${reload}`;
}

/** `in 20 d 4 h`, `5 min ago`. */
function span(ms: number): string {
  const minutes = Math.round(Math.abs(ms) / minute);
  const [days, hours] = [Math.floor(minutes / 1440), Math.floor((minutes % 1440) / 60)];
  const text =
    days > 0
      ? `${days} d ${hours} h`
      : hours > 0
        ? `${hours} h ${minutes % 60} min`
        : minutes > 0
          ? `${minutes} min`
          : "now";
  return text === "now" ? text : ms < 0 ? `${text} ago` : `in ${text}`;
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
