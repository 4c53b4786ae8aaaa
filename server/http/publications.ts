/** Bundle, roots, issuer certificates and CRLs: the same on the agents, enrollment and public listeners. */
import { Router } from "express";
import { mediaTypes } from "@newleaf/shared/api";
import type { Authority } from "../authority/authority.ts";
import { readBundle, readRoots, requireCrl, requireIssuer } from "../authority/publications.ts";
import { sendCacheable } from "./answers.ts";

/** What changes only at a ceremony may be a little old; a CRL must not: a revocation is out as soon as it is published. */
const rootsMaxAge = 3600;
const issuerMaxAge = 86_400;
const crlMaxAge = 60;
const bundleMaxAge = 5;

export function publicationRoutes(authority: Authority): Router {
  const routes = Router();

  routes.get("/v1/bundle", (request, response) => {
    const bundle = readBundle(authority);
    const latest = Math.max(
      authority.issuers.bundle.createdAt,
      ...bundle.crls.map((crl) => Date.parse(crl.thisUpdate)),
    );
    const nextUpdate = Math.min(...bundle.crls.map((crl) => Date.parse(crl.nextUpdate)));
    sendCacheable(request, response, {
      body: Buffer.from(JSON.stringify(bundle)),
      type: mediaTypes.json,
      lastModified: latest,
      maxAge: Math.min(bundleMaxAge, secondsUntil(authority, nextUpdate)),
    });
  });

  routes.get("/roots.pem", (request, response) => {
    sendCacheable(request, response, {
      body: Buffer.from(readRoots(authority)),
      type: mediaTypes.pemFile,
      lastModified: authority.issuers.bundle.createdAt,
      maxAge: rootsMaxAge,
    });
  });

  routes.get("/issuers/:file", (request, response) => {
    const row = requireIssuer(authority, stem(request.params.file, ".crt"));
    sendCacheable(request, response, {
      body: Buffer.from(row.certificate),
      type: mediaTypes.certificate,
      lastModified: row.notBefore,
      maxAge: Math.min(issuerMaxAge, secondsUntil(authority, row.notAfter)),
    });
  });

  routes.get("/crl/:file", (request, response) => {
    const crl = requireCrl(authority, stem(request.params.file, ".crl"));
    sendCacheable(request, response, {
      body: Buffer.from(crl.der),
      type: mediaTypes.crl,
      lastModified: crl.thisUpdate,
      maxAge: Math.min(crlMaxAge, secondsUntil(authority, crl.nextUpdate)),
    });
  });

  return routes;
}

function secondsUntil(authority: Authority, at: number): number {
  return Math.max(0, (at - authority.clock.now()) / 1000 - 1);
}

/** Empty when the file has another ending: no issuer has that id. */
function stem(file: string, ending: string): string {
  return file.endsWith(ending) ? file.slice(0, -ending.length) : "";
}
