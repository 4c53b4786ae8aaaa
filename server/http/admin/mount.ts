/** Makes routes of the declared operations: permission first, then the schemas, then the use case, then the answer in the form asked for. */
import { AppError } from "@newleaf/shared/problems";
import { type Request, type RequestHandler, type Response, Router } from "express";
import type { Authority } from "../../authority/authority.ts";
import { once, type RequestMark } from "../../authority/idempotency.ts";
import { type Act, requireAct } from "../../authority/permissions.ts";
import { sendJson } from "../answers.ts";
import { bodyHashOf, jsonBody, parseBody, parseQuery } from "../body.ts";
import { contextOf } from "../context.ts";
import { admitOperatorAgain } from "./admit-operator.ts";
import { columnsOf, sendCsv } from "./csv.ts";
import type { Answer, Operation } from "./operation.ts";

/** RFC 9110 §5.5 leaves the visible characters and blanks. Shorter ones are guessed by others, or by chance. */
const idempotencyKey = /^[\x20-\x7e]{16,255}$/;

export function mountOperations(authority: Authority, operations: readonly Operation[]): Router {
  const routes = Router();
  for (const declared of operations) mount(routes, authority, declared);
  return routes;
}

function mount(routes: Router, authority: Authority, declared: Operation): void {
  const { method, query, body, large = false } = declared;
  const path = declared.path.replaceAll(/\{(\w+)\}/g, ":$1");
  const parsers = body === undefined ? [] : [...jsonBody({ large }), mayStillAct(authority, declared.act)];
  const columns = columnsOf(declared);
  routes[method](path, mayAct(declared.act), ...parsers, async (request, response) => {
    const params = request.params as Readonly<Record<string, string>>;
    const call = {
      caller: contextOf(request).caller,
      param: (name: string) => params[name] ?? "",
      query: query === undefined ? undefined : parseQuery(query, request),
      body: body === undefined ? undefined : parseBody(body, request),
    };
    const answer = await actOnce(authority, request, response, () => declared.handle(authority, call));
    for (const [name, value] of Object.entries(answer.headers ?? {})) response.setHeader(name, value);
    if (columns !== null && wantsCsv(request)) sendCsv(request, response, columns, answer.body);
    else if (answer.body === undefined) response.status(answer.status).end();
    else sendJson(response, answer.status, answer.body);
  });
}

/** Before anything of the request is read: whoever may not act learns nothing about what he sent. */
function mayAct(act: Act): RequestHandler {
  return (request, _response, next) => {
    requireAct(contextOf(request).caller, act);
    next();
  };
}

function mayStillAct(authority: Authority, act: Act): RequestHandler {
  return async (request, _response, next) => {
    await admitOperatorAgain(authority, request);
    requireAct(contextOf(request).caller, act);
    next();
  };
}

async function actOnce(
  authority: Authority,
  request: Request,
  response: Response,
  act: () => Promise<Answer>,
): Promise<Answer> {
  const mark = markOf(request);
  if (mark === null) return act();
  const tellReplay = () => response.setHeader("Idempotency-Replayed", "true");
  const { caller } = contextOf(request);
  return once(authority, caller, mark, act, tellReplay);
}

/** Null: the request reads, or carries no key. @throws AppError request-invalid */
function markOf(request: Request): RequestMark | null {
  const { method, originalUrl: path, headers } = request;
  const key = headers["idempotency-key"];
  if (key === undefined || method === "GET" || method === "HEAD") return null;
  if (typeof key !== "string" || !idempotencyKey.test(key)) {
    throw new AppError("request-invalid", "Idempotency-Key: 16 to 255 printable characters, such as a random UUID");
  }
  return { key, method, path, bodyHash: bodyHashOf(request) };
}

function wantsCsv(request: Request): boolean {
  return request.accepts(["application/json", "text/csv"]) === "text/csv";
}
