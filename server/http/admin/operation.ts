/**
 * An operation of the admin API, declared once: `mount.ts` mounts it, the same schemas check what comes in, and `openapi.ts` writes
 * the document from it. `act` is its row of the matrix in `authority/permissions.ts`.
 */
import type { ProblemCode } from "@newleaf/shared/problems";
import type { z } from "zod";
import type { Authority, Caller } from "../../authority/authority.ts";
import type { Act } from "../../authority/permissions.ts";

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
