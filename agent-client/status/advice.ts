/** What to do about a failure, for the person who reads it at night. */
import { isProblemCode, type ProblemCode } from "@newleaf/shared/problems";
import type { RetryKind } from "../journal.ts";

/** What failed, after "failed": the journal's step only says how far it got before. */
export const workWords: Readonly<Record<RetryKind, string>> = {
  ask: "to get a certificate",
  announce: "to announce the next certificate",
  install: "to install",
  quarantine: "to put the new set in service",
  serve: "to prove it served",
  report: "to report to the service",
  trust: "to fetch trust bundle and CRLs",
  window: "to ask when to renew",
};

const byProblem: Readonly<Partial<Record<ProblemCode, string>>> = {
  "lineage-locked":
    "two holders of this certificate were seen: newleaf lineage list --state locked, then lineage show, release or revoke ID",
  "certificate-revoked": "if that was not meant: newleaf token create ID, then newleaf-agent enroll --token-file F",
  "certificate-unknown":
    "the service does not know this certificate (restored from a backup?): enroll again with a token",
  "certificate-superseded":
    "this state is older than the service's (restored from a backup?): enroll again with a token",
  "certificate-expired": "newleaf identity grant-recovery ID, or enroll again with a token",
  "certificate-not-trusted": "is this the right service? Else its CA was replaced: enroll again with a token",
  "identity-suspended": "newleaf identity resume ID, when it should work again",
  "identity-unknown": "newleaf identity add ID …, or the inventory does not have it",
  "enrollment-denied": "newleaf token create ID, then newleaf-agent enroll --token-file F",
  "token-invalid": "newleaf token create ID makes a new one; tokens work once and expire",
  "names-not-permitted": "compare the names in the inventory: newleaf identity show ID",
  "key-not-acceptable": "choose another key algorithm for this certificate in agent.yml",
  "issuer-unavailable": "look at the service: newleaf status",
};

const byWord: Readonly<Record<string, string>> = {
  unreachable: "is the service running, and do name, port and firewall let this host reach it?",
  tls: "is roots the root of this service, and does its certificate have the name in server and enrollment?",
  timeout: "the service or the network is slow or hangs",
  waiting: "an operator decides: newleaf approvals list",
  "bundle-refused": "put right what the message names; a root that is meant to be new goes into the roots file by hand",
  "crl-early": "repair this host's clock: until then revocations come to the proxy as late as it is behind",
  "preflight-names": "serverName of a probe is not among the names of the identity: newleaf identity show ID",
  "preflight-dates": "compare this host's clock with the service's",
  "preflight-crl-fresh": "does the service publish its CRLs? newleaf crl show",
  "preflight-crl": "does the service publish its CRLs? newleaf crl show",
  "not-served":
    "does the proxy run, and read its files from `directory`/current? May it, as its own user (owner, mode)? Reload it by hand, read its error log, then newleaf-agent renew",
  "taken-back":
    "read the proxy's error log; the agent tries the new set again by itself, and newleaf-agent renew at once",
  "before-switch":
    "run the command of beforeSwitch by hand, as the agent's user; the switch waits for it, but not past the end of the certificate",
  "check-failed-for-good": "run the command of check by hand: the server would not start now",
  "died-for-good": "start the server, and read its error log; set start to have the agent do it",
  "broke-for-good":
    "read the server's error log: the certificate before has ended or is revoked, so this one has to work",
  "unverified-for-good":
    "compare what the server is configured to send with fullchain.pem, and serverName with the identity's names",
  "unhealthy-for-good":
    "is the application behind the server up, and are path and status of http those of a healthy answer? The certificate is served",
  "clients-refused-for-good":
    "clients are locked out: does the server load ca.pem and crl.pem from `directory`/current, and does the service publish its CRLs (newleaf crl show)?",
  "revoked-let-in": "have the server load crl.pem (nginx: ssl_crl), and switch session resumption off",
  "preflight-chain":
    "was the service's CA replaced? newleaf status there; newleaf-agent status shows the bundle held here",
  unreadable:
    "put right what the message names; everything in the directory of the certificate can be made anew from the agent's state",
  install: "put right what the message names (newleaf-agent check tells more), then newleaf-agent renew, or wait",
};

/** For what the system refused to this process, whatever it was about. */
const bySystemCode: Readonly<Record<string, string>> = {
  EACCES: "run it as the user that owns the state directory (with the unit of deploy/systemd: root)",
  EPERM: "run it as the user that owns the state directory (with the unit of deploy/systemd: root)",
  ENOSPC: "free some space; what is in force stays as it is",
  EROFS: "the state directory has to be writable: with systemd StateDirectory=, in a container a volume",
};

export function adviceForSystem(code: unknown): string | null {
  return typeof code === "string" ? (bySystemCode[code] ?? null) : null;
}

/** Null when the message says it all. */
export function adviceFor(code: string): string | null {
  return (isProblemCode(code) ? byProblem[code] : byWord[code]) ?? null;
}
