/** The public listener: plain HTTP, so that checking a certificate needs no certificate (RFC 5280 §8). */
import express, { type Express } from "express";
import type { Authority } from "../authority/authority.ts";
import { beginRequest } from "./context.ts";
import { noRoute, problemHandler } from "./problem.ts";
import { publicationRoutes } from "./publications.ts";

export function publicApp(authority: Authority): Express {
  const app = express().disable("x-powered-by").disable("etag");
  app.use(beginRequest(authority, "public"));
  app.use(publicationRoutes(authority));
  app.use(noRoute);
  app.use(problemHandler(authority));
  return app;
}
