/**
 * An operation of the admin API, declared once: the router mounts it, the same schemas check what comes in, and the OpenAPI
 * document is written from it. `act` is its row of the matrix in `authority/permissions.ts`.
 */
import type { ProblemCode } from "@newleaf/shared/problems";
import { type RequestHandler, Router } from "express";
import type { z } from "zod";
import type { Authority, Caller } from "../../authority/authority.ts";
import { type Act, requireAct } from "../../authority/permissions.ts";
import { sendJson } from "../answers.ts";
import { jsonBody, parseBody, parseQuery } from "../body.ts";
import { contextOf } from "../context.ts";

type Schema = z.ZodType | undefined;
type Output<S extends Schema> = S extends z.ZodType ? z.output<S> : undefined;

export type Method = "get" | "post" | "patch" | "delete";

export interface Answer {
  readonly status: number;
  /** Absent: no body, as with 204. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

/** One request, checked. */
export interface Call<Query = undefined, Body = undefined> {
  readonly caller: Caller;
  /** A parameter of the path, as it was sent. */
  readonly param: (name: string) => string;
  readonly query: Query;
  readonly body: Body;
}

export interface OperationDefinition<Query extends Schema, Body extends Schema> {
  /** Unique; OpenAPI's operationId: `listTokens`. */
  readonly id: string;
  readonly method: Method;
  /** As OpenAPI writes it: `/v1/tokens/{id}`. */
  readonly path: `/${string}`;
  readonly act: Act;
  readonly summary: string;
  readonly query?: Query;
  readonly body?: Body;
  /** Bodies up to 32 MiB instead of 128 KiB: an inventory. */
  readonly large?: boolean;
  /** Status → shape of its body; null where there is none. */
  readonly answers: Readonly<Record<number, z.ZodType | null>>;
  /** What this operation may refuse with, beside what every operation may. */
  readonly problems?: readonly ProblemCode[];
  handle(authority: Authority, call: Call<Output<Query>, Output<Body>>): Promise<Answer>;
}

/** An operation whose types have been checked against each other. */
export type Operation = OperationDefinition<Schema, Schema>;

export function operation<Query extends Schema = undefined, Body extends Schema = undefined>(
  definition: OperationDefinition<Query, Body>,
): Operation {
  return definition;
}

export function mountOperations(authority: Authority, operations: readonly Operation[]): Router {
  const routes = Router();
  for (const declared of operations) mount(routes, authority, declared);
  return routes;
}

function mount(routes: Router, authority: Authority, declared: Operation): void {
  const { method, query, body, large = false } = declared;
  const path = declared.path.replaceAll(/\{(\w+)\}/g, ":$1");
  const parsers = body === undefined ? [] : jsonBody({ large });
  routes[method](path, mayAct(declared.act), ...parsers, async (request, response) => {
    const params = request.params as Readonly<Record<string, string>>;
    const answer = await declared.handle(authority, {
      caller: contextOf(request).caller,
      param: (name) => params[name] ?? "",
      query: query === undefined ? undefined : parseQuery(query, request),
      body: body === undefined ? undefined : parseBody(body, request),
    });
    for (const [name, value] of Object.entries(answer.headers ?? {})) response.setHeader(name, value);
    if (answer.body === undefined) response.status(answer.status).end();
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
