import type { CertificateReport } from "@newleaf/shared/api";
import { Router } from "express";
import type { Authority } from "../../authority/authority.ts";
import { addIdentity, changeIdentity, removeIdentity, setSuspended } from "../../authority/identities.ts";
import { requireIdentity } from "../../authority/inventory.ts";
import { isoTime } from "../../authority/issue.ts";
import { grantRecovery } from "../../authority/tokens.ts";
import type { CertificateRow } from "../../store/certificates.ts";
import type { IdentityRow } from "../../store/identities.ts";
import { sendJson } from "../answers.ts";
import { jsonBody, parseBody, parseQuery } from "../body.ts";
import { contextOf } from "../context.ts";
import { needs } from "./needs.ts";
import { grantSchema, identityPatchSchema, identityQuery, identitySchema, readMoment } from "./schemas.ts";

export function identityRoutes(authority: Authority): Router {
  const routes = Router();
  const { store, clock } = authority;

  routes.get("/identities", async (request, response) => {
    const { expiresBefore, ...filter } = parseQuery(identityQuery, request);
    const now = clock.now();
    const page = await store.listIdentities({
      ...filter,
      now,
      ...(expiresBefore === undefined ? {} : { expiresBefore: readMoment(expiresBefore, now) }),
    });
    const items = await Promise.all(page.items.map((row) => describeIdentity(authority, row)));
    sendJson(response, 200, { items, nextCursor: page.nextCursor });
  });

  routes.post("/identities", needs("operator"), ...jsonBody(), async (request, response) => {
    const entry = parseBody(identitySchema, request);
    const warnings = await addIdentity(authority, contextOf(request).caller, entry);
    response.setHeader("Location", `/v1/identities/${encodeURIComponent(entry.id)}`);
    sendJson(response, 201, {
      ...(await describeIdentity(authority, await requireIdentity(authority, entry.id))),
      warnings,
    });
  });

  routes.get("/identities/:id", async (request, response) => {
    sendJson(response, 200, await describeIdentity(authority, await requireIdentity(authority, request.params.id)));
  });

  routes.patch("/identities/:id", needs("operator"), ...jsonBody(), async (request, response) => {
    const { id } = request.params as { id: string };
    const warnings = await changeIdentity(
      authority,
      contextOf(request).caller,
      id,
      parseBody(identityPatchSchema, request),
    );
    sendJson(response, 200, { ...(await describeIdentity(authority, await requireIdentity(authority, id))), warnings });
  });

  routes.delete("/identities/:id", needs("operator"), async (request, response) => {
    await removeIdentity(authority, contextOf(request).caller, (request.params as { id: string }).id);
    response.status(204).end();
  });

  for (const method of ["post", "delete"] as const) {
    routes[method]("/identities/:id/suspension", needs("operator"), async (request, response) => {
      const { id } = request.params as { id: string };
      await setSuspended(authority, contextOf(request).caller, id, method === "post");
      sendJson(response, 200, await describeIdentity(authority, await requireIdentity(authority, id)));
    });
  }

  routes.post("/identities/:id/recovery-grants", needs("operator"), ...jsonBody(), async (request, response) => {
    const { id } = request.params as { id: string };
    const grant = await grantRecovery(authority, contextOf(request).caller, id, parseBody(grantSchema, request).ttl);
    sendJson(response, 201, { id: grant.id, identity: id, expiresAt: isoTime(grant.expiresAt) });
  });

  return routes;
}

/** The inventory entry, and beside it what is issued, installed and served. */
async function describeIdentity(authority: Authority, row: IdentityRow): Promise<Record<string, unknown>> {
  const { store, clock } = authority;
  const usable = await store.listUsable(row.id, clock.now());
  const [inForce] = usable;
  const report = await store.findReport(row.id);
  const certificates = report?.report.certificates ?? [];
  const next = certificates.map((certificate) => nextOf(certificate, usable));
  return {
    id: row.id,
    profile: row.profile,
    names: row.names,
    keys: row.keys,
    labels: row.labels,
    state: row.state,
    revision: row.revision,
    ...(row.role === null ? {} : { role: row.role }),
    leaf:
      inForce === undefined
        ? null
        : {
            serial: inForce.serial,
            notAfter: isoTime(inForce.notAfter),
            state: inForce.state,
            fingerprint: inForce.fingerprint,
          },
    lineage: inForce?.lineage ?? null,
    issued: inForce?.fingerprint ?? null,
    nextFingerprint: next.find((fingerprint) => fingerprint !== null) ?? null,
    installed: certificates.map(({ name, installed }, at) => ({
      name,
      fingerprint: installed,
      nextFingerprint: next[at] ?? null,
    })),
    served: certificates.flatMap(({ name, served }) => served.map((probe) => ({ name, ...probe }))),
    ...(report?.report.failure === undefined ? {} : { failure: report.report.failure }),
    lastSeen: row.lastSeenAt === null ? null : isoTime(row.lastSeenAt),
  };
}

/**
 * The leaf that the host holds and is about to install: who pins leaves has to know it before the switch. It is the host's word, so
 * it counts only as long as it is a leaf that this service issued to the identity and that is still good.
 */
function nextOf({ installed, nextFingerprint }: CertificateReport, usable: readonly CertificateRow[]): string | null {
  if (nextFingerprint === undefined || nextFingerprint === installed) return null;
  return usable.some(({ fingerprint }) => fingerprint === nextFingerprint) ? nextFingerprint : null;
}
