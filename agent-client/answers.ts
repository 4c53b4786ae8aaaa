/** The service's answers, read with the same distrust as any other input. Times become milliseconds here. */
import type { Bundle, CertificateAnswer, PendingAnswer } from "@newleaf/shared/api";
import { NetworkError } from "@newleaf/shared/http-client";

const maxText = 200_000;
/** Shown to people and written into logs and the journal: no more than they are made of. */
const identityForm = /^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/;
const serialForm = /^[0-9a-f]{1,40}$/;
const lineageForm = /^[A-Za-z0-9_-]{0,64}$/;

export interface Period {
  readonly start: number;
  readonly end: number;
}

export interface Changes {
  readonly cursor: string;
  readonly bundleVersion: number;
  readonly crls: Readonly<Record<string, number>>;
  readonly renewal: Period;
}

/** @throws NetworkError `protocol` when it is not one */
export function readCertificateAnswer(body: unknown): CertificateAnswer & { readonly renewalPeriod: Period } {
  const fields = objectOf(body, "a certificate answer");
  return {
    identity: word(fields, "identity", identityForm),
    serial: word(fields, "serial", serialForm),
    notBefore: text(fields, "notBefore"),
    notAfter: text(fields, "notAfter"),
    lineage: word(fields, "lineage", lineageForm),
    generation: count(fields, "generation"),
    certificate: text(fields, "certificate"),
    chain: text(fields, "chain"),
    bundleVersion: count(fields, "bundleVersion"),
    renewal: fields["renewal"] as CertificateAnswer["renewal"],
    renewalPeriod: readPeriod(fields["renewal"]),
  };
}

/** @throws NetworkError `protocol` when it is not one */
export function readPendingAnswer(body: unknown): PendingAnswer {
  const fields = objectOf(body, "a pending answer");
  const id = text(fields, "id");
  if (!/^[A-Za-z0-9_-]{1,128}$/.test(id)) throw unlike("a pending answer");
  return { id, state: "pending", fingerprint: text(fields, "fingerprint"), poll: text(fields, "poll") };
}

/** `{start, end}`. @throws NetworkError `protocol` when it is not one */
export function readPeriod(body: unknown): Period {
  const fields = objectOf(body, "a renewal window");
  const start = time(fields, "start");
  const end = time(fields, "end");
  if (end < start) throw unlike("a renewal window");
  return { start, end };
}

/** @throws NetworkError `protocol` when it is not one */
export function readChanges(body: unknown): Changes {
  const fields = objectOf(body, "an answer of the change feed");
  return {
    cursor: text(fields, "cursor"),
    bundleVersion: count(fields, "bundleVersion"),
    crls: numbers(fields["crls"]),
    renewal: readPeriod(fields["renewal"]),
  };
}

/** @throws NetworkError `protocol` when it is not one */
export function readBundle(body: unknown): Bundle {
  const fields = objectOf(body, "a trust bundle");
  return {
    version: count(fields, "version"),
    roots: list(fields, "roots").map(asText),
    crossCertificates: list(fields, "crossCertificates").map(asText),
    issuers: list(fields, "issuers").map((item) => {
      const issuer = objectOf(item, "an issuer of the trust bundle");
      return { id: text(issuer, "id"), certificate: text(issuer, "certificate") };
    }),
    crls: list(fields, "crls").map((item) => {
      const crl = objectOf(item, "a CRL of the trust bundle");
      return {
        issuer: text(crl, "issuer"),
        url: text(crl, "url"),
        number: count(crl, "number"),
        thisUpdate: text(crl, "thisUpdate"),
        nextUpdate: text(crl, "nextUpdate"),
      };
    }),
  };
}

type Fields = Readonly<Record<string, unknown>>;

function objectOf(value: unknown, what: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw unlike(what);
  return value as Fields;
}

function text(fields: Fields, name: string): string {
  return asText(fields[name]);
}

function word(fields: Fields, name: string, form: RegExp): string {
  const value = text(fields, name);
  if (!form.test(value)) throw unlike(`an answer (its "${name}")`);
  return value;
}

function asText(value: unknown): string {
  if (typeof value !== "string" || value.length > maxText) throw unlike("an answer");
  return value;
}

function count(fields: Fields, name: string): number {
  const value = fields[name];
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0)
    throw unlike(`an answer ("${name}" is no number)`);
  return value;
}

function time(fields: Fields, name: string): number {
  const at = Date.parse(text(fields, name));
  if (!Number.isFinite(at)) throw unlike(`an answer ("${name}" is no time)`);
  return at;
}

function list(fields: Fields, name: string): readonly unknown[] {
  const value = fields[name];
  if (!Array.isArray(value) || value.length > 1000) throw unlike(`an answer ("${name}" is no list)`);
  return value;
}

function numbers(value: unknown): Readonly<Record<string, number>> {
  const fields = objectOf(value, "an answer of the change feed");
  return Object.fromEntries(Object.keys(fields).map((name) => [name, count(fields, name)]));
}

function unlike(what: string): NetworkError {
  return new NetworkError("protocol", `the service sent ${what} that this agent cannot read; are both of one version?`);
}
