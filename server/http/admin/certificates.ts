import { Router } from "express";
import { pemEncode } from "@newleaf/shared/pem";
import { AppError } from "@newleaf/shared/problems";
import { normaliseSerial } from "@newleaf/shared/serial-number";
import type { Authority } from "../../authority/authority.ts";
import { isoTime } from "../../authority/issue.ts";
import { chainOf } from "../../authority/issuers.ts";
import { parseReason, releaseHold, revoke, type RevocationTarget } from "../../authority/revoke.ts";
import type { CertificateRow } from "../../store/certificates.ts";
import { sendJson } from "../answers.ts";
import { jsonBody, parseBody, parseQuery } from "../body.ts";
import { contextOf } from "../context.ts";
import { needs } from "./needs.ts";
import { certificateQuery, readMoment, reasonSchema, revocationSchema } from "./schemas.ts";

export function certificateRoutes(authority: Authority): Router {
  const routes = Router();
  const { store, clock } = authority;

  routes.get("/certificates", async (request, response) => {
    const { expiresBefore, ...filter } = parseQuery(certificateQuery, request);
    const now = clock.now();
    const page = await store.listCertificates({
      ...filter,
      now,
      ...(expiresBefore === undefined ? {} : { expiresBefore: readMoment(expiresBefore, now) }),
    });
    sendJson(response, 200, {
      items: page.items.map((row) => describeCertificate(row, now)),
      nextCursor: page.nextCursor,
    });
  });

  routes.get("/certificates/:serial", async (request, response) => {
    const row = await requireCertificate(authority, request.params.serial);
    sendJson(response, 200, {
      ...describeCertificate(row, clock.now()),
      certificate: pemEncode("CERTIFICATE", row.der),
      chain: chainOf(authority.issuers, row.issuerId)
        .map((der) => pemEncode("CERTIFICATE", der))
        .join(""),
    });
  });

  routes.post("/certificates/:serial/revocation", needs("operator"), ...jsonBody(), async (request, response) => {
    const reason = parseReason(parseBody(reasonSchema, request).reason);
    const serial = normaliseSerial((request.params as { serial: string }).serial);
    await revoke(authority, contextOf(request).caller, { serial }, reason);
    sendJson(response, 200, describeCertificate(await requireCertificate(authority, serial), clock.now()));
  });

  routes.delete("/certificates/:serial/revocation", needs("operator"), async (request, response) => {
    const serial = normaliseSerial((request.params as { serial: string }).serial);
    await releaseHold(authority, contextOf(request).caller, serial);
    sendJson(response, 200, describeCertificate(await requireCertificate(authority, serial), clock.now()));
  });

  routes.post("/revocations", needs("operator"), ...jsonBody(), async (request, response) => {
    const { reason, dryRun, serial, lineage, identity, key } = parseBody(revocationSchema, request);
    const target = chooseTarget({ serial, lineage, identity, key });
    const outcome = await revoke(authority, contextOf(request).caller, target, parseReason(reason), { dryRun });
    const { revoked, blockedKeys } = outcome;
    const items = revoked.map(({ outcome: state, ...rest }) => ({ ...rest, state }));
    sendJson(response, 200, { revoked: items, blockedKeys, dryRun });
  });

  return routes;
}

interface Targets {
  readonly serial: string | undefined;
  readonly lineage: string | undefined;
  readonly identity: string | undefined;
  readonly key: string | undefined;
}

/** The schema lets exactly one through. */
function chooseTarget({ serial, lineage, identity, key }: Targets): RevocationTarget {
  if (serial !== undefined) return { serial: normaliseSerial(serial) };
  if (lineage !== undefined) return { lineage };
  if (identity !== undefined) return { identity };
  if (key !== undefined) return { key };
  throw new AppError("request-invalid", "name exactly one of serial, lineage, identity, key");
}

async function requireCertificate(authority: Authority, serial: string): Promise<CertificateRow> {
  const row = await authority.store.findCertificate(normaliseSerial(serial));
  if (row === null) throw new AppError("serial-unknown", `No certificate has serial ${serial.slice(0, 60)}`);
  return row;
}

/** `expired` is derived: a revoked or held one stays so. */
export function describeCertificate(row: CertificateRow, now: number): Record<string, unknown> {
  const isRevoked = row.state === "revoked" || row.state === "held";
  return {
    serial: row.serial,
    identity: row.identity,
    profile: row.profile,
    state: !isRevoked && row.notAfter < now ? "expired" : row.state,
    kind: row.kind,
    issuer: row.issuerId,
    lineage: row.lineage,
    generation: row.generation,
    parent: row.parent,
    key: row.key,
    fingerprint: row.fingerprint,
    notBefore: isoTime(row.notBefore),
    notAfter: isoTime(row.notAfter),
    issuedAt: isoTime(row.issuedAt),
    renewal: { start: isoTime(row.renewalStart), end: isoTime(row.renewalEnd) },
    firstUsedAt: row.firstUsedAt === null ? null : isoTime(row.firstUsedAt),
    supersededAt: row.supersededAt === null ? null : isoTime(row.supersededAt),
    revokedAt: row.revokedAt === null ? null : isoTime(row.revokedAt),
    reason: row.reason,
  };
}
