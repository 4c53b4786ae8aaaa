/** The agents listener: renewal, window, reports, change feed and publications, all behind the gate. */
import express, { type Express, type Request, type Response } from "express";
import { mediaTypes, paths } from "@newleaf/shared/api";
import { parseDuration } from "@newleaf/shared/duration";
import { AppError } from "@newleaf/shared/problems";
import type { Authority } from "../authority/authority.ts";
import { refuseUnfit } from "../authority/gate.ts";
import { certificateAnswer, isoTime } from "../authority/issue.ts";
import { readChanges } from "../authority/publications.ts";
import { renewalWindowOf, type Window } from "../authority/renewal-window.ts";
import { recordReport } from "../authority/report.ts";
import { renew } from "../authority/renew.ts";
import type { CertificateRow } from "../store/certificates.ts";
import { sendJson } from "./answers.ts";
import { jsonBody, parseBody } from "./body.ts";
import { beginRequest, contextOf, leafOf } from "./context.ts";
import { closeRefused, gate } from "./gate.ts";
import { noRoute, problemHandler } from "./problem.ts";
import { publicationRoutes } from "./publications.ts";
import { renewalSchema, reportSchema } from "./schemas.ts";

const maxWait = 55_000;
const pollAgainAfterSeconds = 30;

/** `stopping` answers held polls. */
export function agentsApp(authority: Authority, stopping: AbortSignal): Express {
  const app = express()
    .disable("x-powered-by")
    .disable("etag")
    .enable("strict routing")
    .enable("case sensitive routing");
  app.use(beginRequest(authority, "agents"));
  app.use(gate(authority, { renewalPath: paths.renewals }));

  app.post(paths.renewals, ...jsonBody(), async (request, response) => {
    const { csr } = parseBody(renewalSchema, request);
    const { certificate, again } = await renew(authority, contextOf(request).caller, leafOf(request), csr);
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

/** Holds the request until something differs from the caller's cursor. Bounded: beyond maxHeld callers are told to poll. */
function changeFeed(authority: Authority, stopping: AbortSignal) {
  let held = 0;
  return async (request: Request, response: Response): Promise<void> => {
    const presented = leafOf(request);
    const { after, wait } = request.query;
    const deadline = performance.now() + Math.min(maxWait, typeof wait === "string" ? parseDuration(wait) : 0);
    const gone = new AbortController();
    response.once("close", () => gone.abort());

    let leaf = presented;
    for (;;) {
      const changes = await readChanges(authority, leaf);
      if (changes.cursor !== after) return sendJson(response, 200, changes);
      const remaining = deadline - performance.now();
      if (remaining <= 0 || stopping.aborted || gone.signal.aborted) return void response.status(204).end();
      if (held >= authority.config.changes.maxHeld) {
        response.setHeader("Retry-After", String(pollAgainAfterSeconds));
        return void response.status(204).end();
      }
      held += 1;
      try {
        await authority.feed.next(
          leaf.identity,
          AbortSignal.any([stopping, gone.signal, AbortSignal.timeout(Math.ceil(remaining))]),
        );
      } finally {
        held -= 1;
      }
      leaf = await stillAdmitted(authority, leaf.serial);
    }
  };
}

/** A leaf that was revoked while its poll was held gets no news. */
async function stillAdmitted(authority: Authority, serial: string) {
  const leaf = await authority.store.findPresented(serial);
  if (leaf === null) throw new AppError("certificate-unknown");
  refuseUnfit(leaf, authority.clock.now(), authority.config.lineage.overlap);
  return leaf;
}
