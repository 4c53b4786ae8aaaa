/** JSON Schema of the parts of OpenAPI 3.1.0 that are used here: what is not in it is not allowed, so that nothing is misspelled. */
const parameter = {
  type: "object",
  properties: {
    name: { type: "string", minLength: 1 },
    in: { enum: ["path", "query", "header"] },
    required: { type: "boolean" },
    description: { type: "string" },
    schema: { $ref: "#/$defs/schema" },
  },
  required: ["name", "in", "schema"],
  additionalProperties: false,
  anyOf: [
    { properties: { in: { enum: ["query", "header"] } } },
    { required: ["required"], properties: { required: { const: true } } },
  ],
};

const content = {
  type: "object",
  minProperties: 1,
  propertyNames: { pattern: "^[a-z]+/[a-z0-9.+-]+$" },
  additionalProperties: {
    type: "object",
    properties: { schema: { $ref: "#/$defs/schema" } },
    required: ["schema"],
    additionalProperties: false,
  },
};

const response = {
  type: "object",
  properties: {
    description: { type: "string", minLength: 1 },
    headers: {
      type: "object",
      additionalProperties: { type: "object", properties: { $ref: { type: "string" } }, required: ["$ref"] },
    },
    content,
  },
  required: ["description"],
  additionalProperties: false,
};

const operation = {
  type: "object",
  properties: {
    operationId: { type: "string", pattern: "^[a-z][A-Za-z0-9]*$" },
    summary: { type: "string", minLength: 1 },
    tags: { type: "array", items: { type: "string" } },
    parameters: { type: "array", items: parameter },
    requestBody: {
      type: "object",
      properties: { required: { type: "boolean" }, content },
      required: ["content"],
      additionalProperties: false,
    },
    responses: {
      type: "object",
      minProperties: 1,
      propertyNames: { pattern: "^[1-5][0-9]{2}$" },
      additionalProperties: response,
    },
  },
  patternProperties: { "^x-": { type: "string" } },
  required: ["operationId", "responses"],
  additionalProperties: false,
};

export const openApiShape = {
  $defs: { schema: { $ref: "https://json-schema.org/draft/2020-12/schema" } },
  type: "object",
  properties: {
    openapi: { const: "3.1.0" },
    info: {
      type: "object",
      properties: {
        title: { type: "string" },
        version: { type: "string" },
        description: { type: "string" },
        license: {
          type: "object",
          properties: { name: { type: "string" }, identifier: { type: "string" } },
          required: ["name"],
          additionalProperties: false,
        },
      },
      required: ["title", "version"],
      additionalProperties: false,
    },
    servers: {
      type: "array",
      items: { type: "object", properties: { url: { type: "string", format: "uri" } }, required: ["url"] },
    },
    security: { type: "array", items: { type: "object", additionalProperties: { type: "array", maxItems: 0 } } },
    tags: { type: "array", items: { type: "object", required: ["name"] }, uniqueItems: true },
    paths: {
      type: "object",
      propertyNames: { pattern: "^/" },
      additionalProperties: {
        type: "object",
        properties: { get: operation, post: operation, patch: operation, delete: operation },
        additionalProperties: false,
      },
    },
    components: {
      type: "object",
      properties: {
        schemas: {
          type: "object",
          propertyNames: { pattern: "^[A-Za-z0-9._-]+$" },
          additionalProperties: { $ref: "#/$defs/schema" },
        },
        headers: { type: "object", additionalProperties: { type: "object", required: ["schema"] } },
        securitySchemes: {
          type: "object",
          additionalProperties: { type: "object", properties: { type: { const: "mutualTLS" } }, required: ["type"] },
        },
      },
      additionalProperties: false,
    },
  },
  required: ["openapi", "info", "paths"],
  additionalProperties: false,
};
