/** The ops listener: metrics and health, for the machine's own network. */
import express, { type Express } from "express";
import type { Authority } from "../authority/authority.ts";
import { whyNotReady } from "../authority/status/readiness.ts";
import type { Metrics } from "../metrics.ts";
import { sendJson } from "./answers.ts";
import { beginRequest } from "./context.ts";
import { fillMetrics } from "./fill-metrics.ts";
import { noRoute, problemHandler } from "./problem.ts";

export function opsApp(authority: Authority, metrics: Metrics): Express {
  const app = express().disable("x-powered-by").disable("etag");
  app.use(beginRequest(authority, "ops"));

  app.get("/metrics", async (_request, response) => {
    await fillMetrics(authority, metrics);
    response.setHeader("Content-Type", metrics.registry.contentType);
    response.end(await metrics.registry.metrics());
  });

  app.get("/livez", (_request, response) => sendJson(response, 200, { status: "live" }));

  /** Ready: the store can commit and an issuer can sign. */
  app.get("/readyz", async (_request, response) => {
    const problems = await whyNotReady(authority);
    sendJson(response, problems.length === 0 ? 200 : 503, {
      status: problems.length === 0 ? "ready" : "not ready",
      problems,
    });
  });

  app.use(noRoute);
  app.use(problemHandler(authority));
  return app;
}
