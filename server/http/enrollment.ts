/** The enrollment listener: for those who have no usable leaf yet. Server TLS only; everything a stranger can make grow is bounded. */
import express, { type Express, type Request, type Response } from "express";
import { paths } from "@newleaf/shared/api";
import type { Authority } from "../authority/authority.ts";
import { pollEnrollment, type EnrollmentOutcome } from "../authority/enrollment/enroll.ts";
import { enrollInTurn } from "../authority/herd/enroll-in-turn.ts";
import { renewalWindowOf } from "../authority/renewal-window.ts";
import { sendCertificate } from "./agents.ts";
import { sendJson } from "./answers.ts";
import { jsonBody, parseBody } from "./body.ts";
import { beginRequest, contextOf } from "./context.ts";
import { goneSignal, limitEnrollments, limitStrangers } from "./limits.ts";
import { noRoute, problemHandler } from "./problem.ts";
import { publicationRoutes } from "./publications.ts";
import { enrollmentSchema } from "./schemas.ts";

const pollAfterSeconds = 5;

export function enrollmentApp(authority: Authority): Express {
  const app = express()
    .disable("x-powered-by")
    .disable("etag")
    .enable("strict routing")
    .enable("case sensitive routing");
  app.use(beginRequest(authority, "enrollment"));

  const limits = [limitStrangers(authority), limitEnrollments(authority)];
  app.post(paths.enrollments, ...limits, ...jsonBody(), async (request, response) => {
    const { csr, token, claim } = parseBody(enrollmentSchema, request);
    const ask = { csr, ...(token === undefined ? {} : { token }), ...(claim === undefined ? {} : { claim }) };
    const outcome = await enrollInTurn(authority, contextOf(request).caller, ask, goneSignal(response));
    await sendOutcome(authority, request, response, 201, outcome);
  });

  app.get(`${paths.enrollments}/:id`, async (request, response) => {
    await sendOutcome(authority, request, response, 200, await pollEnrollment(authority, request.params.id));
  });

  app.use(publicationRoutes(authority));
  app.use(noRoute);
  app.use(problemHandler(authority));
  return app;
}

async function sendOutcome(
  authority: Authority,
  request: Request,
  response: Response,
  status: 200 | 201,
  outcome: EnrollmentOutcome,
): Promise<void> {
  if (outcome.kind === "certificate") {
    const { certificate } = outcome;
    const window = await renewalWindowOf(authority, certificate);
    return sendCertificate(authority, request, response, { status, certificate, window });
  }
  const { id, key } = outcome.request;
  response.setHeader("Retry-After", String(pollAfterSeconds));
  sendJson(response, 202, { id, state: "pending", fingerprint: key, poll: paths.enrollment(id) });
}
