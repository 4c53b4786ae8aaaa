/** The agents listener: renewal, window, reports, change feed and publications, all behind the gate. */
import express, { type Express, type Request, type Response } from "express";
import { mediaTypes, paths } from "@newleaf/shared/api";
import type { Authority } from "../authority/authority.ts";
import { certificateAnswer, isoTime } from "../authority/issue.ts";
import { renewalWindowOf, type Window } from "../authority/renewal-window.ts";
import { recordReport } from "../authority/report.ts";
import { renewInTurn } from "../authority/herd/renew-in-turn.ts";
import type { CertificateRow } from "../store/certificates.ts";
import { sendJson } from "./answers.ts";
import { jsonBody, parseBody } from "./body.ts";
import { changeFeed } from "./change-feed.ts";
import { beginRequest, contextOf, leafOf } from "./context.ts";
import { closeRefused, gate } from "./gate.ts";
import { goneSignal, limitLeaf, limitStrangers } from "./limits.ts";
import { noRoute, problemHandler } from "./problem.ts";
import { publicationRoutes } from "./publications.ts";
import { renewalSchema, reportSchema } from "./schemas.ts";

/** `stopping` answers held polls. */
export function agentsApp(authority: Authority, stopping: AbortSignal): Express {
  const app = express()
    .disable("x-powered-by")
    .disable("etag")
    .enable("strict routing")
    .enable("case sensitive routing");
  app.use(beginRequest(authority, "agents"));
  app.use(limitStrangers(authority));
  app.use(gate(authority, { renewalPath: paths.renewals }));
  app.use(limitLeaf(authority));

  app.post(paths.renewals, ...jsonBody(), async (request, response) => {
    const { csr } = parseBody(renewalSchema, request);
    const { caller } = contextOf(request);
    const gone = goneSignal(response);
    const { certificate, again } = await renewInTurn(authority, caller, leafOf(request), csr, gone);
    // What was issued this moment is what would be issued now.
    const { renewalStart: start, renewalEnd: end } = certificate;
    const window = again ? await renewalWindowOf(authority, certificate) : { start, end };
    sendCertificate(authority, request, response, { status: again ? 200 : 201, certificate, window });
  });

  app.get(paths.renewalWindow, async (request, response) => {
    const leaf = leafOf(request);
    const window = await renewalWindowOf(authority, leaf);
    sendJson(response, 200, { start: isoTime(window.start), end: isoTime(window.end), reason: window.reason });
  });

  app.post(paths.reports, ...jsonBody(), async (request, response) => {
    await recordReport(authority, leafOf(request), parseBody(reportSchema, request));
    response.status(204).end();
  });

  app.get(paths.changes, changeFeed(authority, stopping));

  app.use(publicationRoutes(authority));
  app.use(noRoute);
  app.use(closeRefused(authority), problemHandler(authority));
  return app;
}

/** The plain cases first: weighing types costs as much as reading the request's key. */
function prefersPem(request: Request): boolean {
  const { accept = "*/*" } = request.headers;
  if (accept === mediaTypes.json || accept === "*/*") return false;
  return request.accepts([mediaTypes.json, mediaTypes.pemChain]) === mediaTypes.pemChain;
}

interface ReleasedLeaf {
  readonly status: 200 | 201;
  readonly certificate: CertificateRow;
  readonly window: Pick<Window, "start" | "end">;
}

/** The leaf as JSON, or as PEM chain for who asks for that. */
export function sendCertificate(
  authority: Authority,
  request: Request,
  response: Response,
  { status, certificate, window }: ReleasedLeaf,
): void {
  const answer = certificateAnswer(authority, certificate, window);
  response.setHeader("Cache-Control", "no-store");
  if (prefersPem(request)) {
    response.status(status).setHeader("Content-Type", mediaTypes.pemChain);
    response.end(answer.certificate + answer.chain);
    return;
  }
  sendJson(response, status, answer);
}
