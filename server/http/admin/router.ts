/** The admin listener: the same gate, operator identities only, guarded against browsers driven from another site. */
import express, { type Express, type RequestHandler } from "express";
import { AppError } from "@newleaf/shared/problems";
import type { Authority } from "../../authority/authority.ts";
import { requireJson } from "../body.ts";
import { beginRequest, leafOf } from "../context.ts";
import { closeRefused, gate } from "../gate.ts";
import { limitLeaf } from "../limits.ts";
import { noRoute, problemHandler } from "../problem.ts";
import { admitOperator } from "./admit-operator.ts";
import { mountOperations } from "./mount.ts";
import { operations } from "./operations.ts";

export function adminApp(authority: Authority): Express {
  const app = express()
    .disable("x-powered-by")
    .disable("etag")
    .enable("strict routing")
    .enable("case sensitive routing");
  app.use(beginRequest(authority, "admin"));
  app.use(gate(authority));
  // Operators pass; a host that knocks here without end would take the time of everybody else's requests.
  app.use(limitLeaf(authority));
  app.use(operatorsOnly(authority));
  app.use(refuseOtherSites, requireJson);
  app.use(mountOperations(authority, operations));
  app.use(noRoute);
  app.use(closeRefused(authority), problemHandler(authority));
  return app;
}

function operatorsOnly(authority: Authority): RequestHandler {
  return async (request, _response, next) => {
    await admitOperator(authority, request, leafOf(request));
    next();
  };
}

/**
 * A browser that holds an operator's certificate sends it for any site that asks. A custom header makes such a request
 * need a preflight, which is never granted; and an Origin, where there is one, must be this listener's own.
 */
const refuseOtherSites: RequestHandler = (request, _response, next) => {
  const { origin, host } = request.headers;
  if (origin !== undefined && origin !== `https://${host ?? ""}`) {
    throw new AppError("not-permitted", "The Origin of the request is not this listener's own");
  }
  const changes = request.method !== "GET" && request.method !== "HEAD";
  if (changes && (request.headers["x-newleaf-client"] ?? "") === "") {
    throw new AppError("not-permitted", "Requests that change anything must carry the header X-Newleaf-Client");
  }
  next();
};
