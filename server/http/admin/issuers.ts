import { X509Certificate } from "node:crypto";
import { Router } from "express";
import type { Authority } from "../../authority/authority.ts";
import { isoTime } from "../../authority/issue.ts";
import { describeCrl } from "../../authority/publications.ts";
import { publishCrl } from "../../authority/publish-crl.ts";
import type { IssuerRow } from "../../store/issuers.ts";
import { sendJson } from "../answers.ts";
import { contextOf } from "../context.ts";
import { needs } from "./needs.ts";

export function issuerRoutes(authority: Authority): Router {
  const routes = Router();

  routes.get("/issuers", (_request, response) => {
    sendJson(response, 200, {
      items: authority.issuers.rows.map((row) => describeIssuer(authority, row)),
      nextCursor: null,
    });
  });

  routes.post("/crls/:issuer/publication", needs("operator"), async (request, response) => {
    const { issuer } = request.params as { issuer: string };
    sendJson(
      response,
      200,
      describeCrl(
        authority,
        await publishCrl(authority, contextOf(request).caller, issuer, "asked for by an operator"),
      ),
    );
  });

  return routes;
}

function describeIssuer(authority: Authority, row: IssuerRow): Record<string, unknown> {
  const crl = authority.issuers.crls.get(row.id);
  return {
    id: row.id,
    kind: row.kind,
    state: row.state,
    parent: row.parent,
    subject: new X509Certificate(row.certificate).subject,
    notBefore: isoTime(row.notBefore),
    notAfter: isoTime(row.notAfter),
    canSign: authority.issuers.signers.has(row.id),
    crl: crl === undefined ? null : describeCrl(authority, crl),
  };
}
