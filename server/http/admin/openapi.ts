/** The OpenAPI 3.1 document of the admin API, written from the operations as they are declared and mounted. */
import { type ProblemCode, problems } from "@newleaf/shared/problems";
import { mediaTypes } from "@newleaf/shared/api";
import { z } from "zod";
import { acts } from "../../authority/permissions.ts";
import { version } from "../../version.ts";
import { itemOf } from "./csv.ts";
import { type Components, type JsonSchema, jsonSchemaOf, refersTo, resolved } from "./json-schema.ts";
import { operation, type Operation } from "./operation.ts";

/** What the gate and the guards before every operation refuse with. */
const everywhere: readonly ProblemCode[] = [
  "request-invalid",
  "client-certificate-required",
  "certificate-not-trusted",
  "certificate-unknown",
  "certificate-revoked",
  "certificate-expired",
  "certificate-superseded",
  "identity-suspended",
  "not-permitted",
  "lineage-locked",
  "media-type-unsupported",
  "internal",
];
/** What a repeated Idempotency-Key, and too many of them, are refused with. */
const onWrites: readonly ProblemCode[] = ["conflict", "rate-limited"];
const withBody: readonly ProblemCode[] = ["request-too-large"];

export interface OpenApiDocument {
  readonly openapi: "3.1.0";
  readonly paths: Readonly<Record<string, Readonly<Record<string, JsonSchema>>>>;
  readonly components: Readonly<Record<string, unknown>>;
  readonly [more: string]: unknown;
}

const documentAnswer = z
  .looseObject({ openapi: z.string(), info: z.looseObject({ title: z.string(), version: z.string() }) })
  .describe("this document");

/** @param list of all operations, this one among them */
export function openApiOperation(list: () => readonly Operation[]): Operation {
  let document: OpenApiDocument | undefined;
  return operation({
    id: "getOpenApi",
    method: "get",
    path: "/openapi.json",
    act: "status.read",
    summary: "This API, described in OpenAPI 3.1",
    answers: { 200: documentAnswer },
    async handle() {
      document ??= openApiDocument(list());
      return { status: 200, body: document };
    },
  });
}

/** @throws Error when two different schemas have one name */
export function openApiDocument(operations: readonly Operation[]): OpenApiDocument {
  const schemas: Components = new Map([["Problem", problemSchema]]);
  const paths: Record<string, Record<string, JsonSchema>> = {};
  for (const declared of operations) {
    const item = (paths[declared.path] ??= {});
    item[declared.method] = describe(declared, schemas);
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Newleaf admin API",
      version,
      description: "What operators and their scripts do; see docs/api.md. Mutual TLS with an operator's certificate.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: "https://127.0.0.1:8445", description: "the admin listener, where it is unless told otherwise" }],
    security: [{ operator: [] }],
    tags: [...new Set(operations.map(tagOf))].map((name) => ({ name })),
    paths,
    components: {
      schemas: Object.fromEntries([...schemas].toSorted(([a], [b]) => (a < b ? -1 : 1))),
      securitySchemes: {
        operator: { type: "mutualTLS", description: "a certificate of profile operator; its role is in the store" },
      },
      headers: {
        RequestId: { description: "names the request in the service's log", schema: { type: "string" } },
        Replayed: {
          description: "`true`: not done again; what the first request with this Idempotency-Key was answered",
          schema: { const: "true" },
        },
        RetryAfter: { description: "seconds after which it may be tried again", schema: { type: "integer" } },
      },
    },
  };
}

/** Every code that this operation may refuse with. */
export function problemCodesOf({ method, body, problems: own = [] }: Operation): readonly ProblemCode[] {
  const codes = new Set([...everywhere, ...own, ...(method === "get" ? [] : onWrites), ...(body ? withBody : [])]);
  return [...codes].toSorted();
}

function describe(declared: Operation, schemas: Components): JsonSchema {
  const { id, act, summary, body } = declared;
  return {
    operationId: id,
    summary,
    tags: [tagOf(declared)],
    parameters: parametersOf(declared, schemas),
    ...(body === undefined
      ? {}
      : {
          requestBody: {
            required: !resolvedBody(body).isOptional,
            content: { [mediaTypes.json]: { schema: jsonSchemaOf(body, "input", schemas) } },
          },
        }),
    responses: { ...answersOf(declared, schemas), ...refusalsOf(declared) },
    "x-newleaf-act": act,
    "x-newleaf-role": acts[act],
  };
}

/** A body that may be left out: none of its fields is needed. */
function resolvedBody(body: z.ZodType): { readonly isOptional: boolean } {
  const parts: Components = new Map();
  const { required = [] } = resolved(jsonSchemaOf(body, "input", parts), parts) as {
    readonly required?: readonly string[];
  };
  return { isOptional: required.length === 0 };
}

function parametersOf({ path, method, query }: Operation, schemas: Components): readonly JsonSchema[] {
  const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name = ""]) => ({
    name,
    in: "path",
    required: true,
    schema: { type: "string", minLength: 1 },
  }));
  return [...inPath, ...queryParameters(query, schemas), ...(method === "get" ? [] : headerParameters)];
}

function queryParameters(query: z.ZodType | undefined, schemas: Components): readonly JsonSchema[] {
  if (query === undefined) return [];
  const { properties = {}, required = [] } = resolved(jsonSchemaOf(query, "input", schemas), schemas) as {
    readonly properties?: Readonly<Record<string, JsonSchema>>;
    readonly required?: readonly string[];
  };
  return Object.entries(properties).map(([name, { description, ...schema }]) => ({
    name,
    in: "query",
    ...(description === undefined ? {} : { description }),
    required: required.includes(name),
    schema,
  }));
}

const headerParameters: readonly JsonSchema[] = [
  {
    name: "X-Newleaf-Client",
    in: "header",
    required: true,
    description: "any value: no other site's page can make a browser send it",
    schema: { type: "string", minLength: 1 },
  },
  {
    name: "Idempotency-Key",
    in: "header",
    required: false,
    description: "a random value: sent again within 24 h, the request is not acted on again and gets the same answer",
    schema: { type: "string", pattern: "^[ -~]{16,255}$" },
  },
];

function answersOf({ answers, method }: Operation, schemas: Components): Record<string, JsonSchema> {
  const headers = {
    "X-Request-Id": { $ref: "#/components/headers/RequestId" },
    ...(method === "get" ? {} : { "Idempotency-Replayed": { $ref: "#/components/headers/Replayed" } }),
  };
  return Object.fromEntries(
    Object.entries(answers).map(([status, schema]) => {
      if (schema === null) return [status, { description: "Done; no body", headers }];
      const json = { [mediaTypes.json]: { schema: jsonSchemaOf(schema, "output", schemas) } };
      const csv = itemOf(schema) === null ? {} : { "text/csv": { schema: { type: "string" } } };
      return [status, { description: schema.description ?? "Done", headers, content: { ...json, ...csv } }];
    }),
  );
}

function refusalsOf(declared: Operation): Record<string, JsonSchema> {
  const byStatus = Object.groupBy(problemCodesOf(declared), (code) => String(problems[code].status));
  return Object.fromEntries(
    Object.entries(byStatus).map(([status, codes = []]) => [
      status,
      {
        description: codes.map((code) => problems[code].title).join("; "),
        headers: {
          "X-Request-Id": { $ref: "#/components/headers/RequestId" },
          "Retry-After": { $ref: "#/components/headers/RetryAfter" },
        },
        content: {
          [mediaTypes.problem]: {
            schema: { allOf: [refersTo("Problem"), { properties: { code: { enum: codes } } }] },
          },
        },
      },
    ]),
  );
}

/** RFC 9457, with the stable code that scripts look at. */
const problemSchema: JsonSchema = {
  type: "object",
  properties: {
    type: { type: "string", format: "uri" },
    title: { type: "string" },
    status: { type: "integer", minimum: 400, maximum: 599 },
    code: { type: "string" },
    detail: { type: "string" },
    retryAfterSeconds: { type: "number", minimum: 0 },
  },
  required: ["type", "title", "status", "code"],
  additionalProperties: false,
};

function tagOf({ path }: Pick<Operation, "path">): string {
  return path.split("/").find((part) => part !== "" && part !== "v1" && !part.includes(".")) ?? "api";
}
