/** Judges answers of the admin API by its own document: is this status said there, and is the body of that shape? */
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import type { AdminAnswer } from "./admin-clients.ts";

export interface DocumentedParameter {
  readonly name: string;
  readonly in: "path" | "query" | "header";
  readonly required?: boolean;
  readonly schema: Readonly<Record<string, unknown>>;
}

export interface DocumentedOperation {
  readonly id: string;
  readonly method: string;
  readonly path: string;
  readonly parameters: readonly DocumentedParameter[];
  /** Null: it takes none. */
  readonly body: Readonly<Record<string, unknown>> | null;
  readonly role: string;
}

export interface Judge {
  readonly operations: readonly DocumentedOperation[];
  /** Null: as the document says. */
  judge(operation: DocumentedOperation, answer: AdminAnswer): string | null;
  /** A schema with what its references lead to. */
  resolve(schema: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>>;
}

interface Content {
  readonly content?: Readonly<Record<string, { readonly schema: Readonly<Record<string, unknown>> }>>;
}

interface Declared {
  readonly operationId: string;
  readonly parameters?: readonly DocumentedParameter[];
  readonly requestBody?: Content;
  readonly responses: Readonly<Record<string, Content>>;
  readonly "x-newleaf-role": string;
}

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Declared>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Readonly<Record<string, unknown>>>> };
}

export function openApiJudge(served: unknown): Judge {
  const document = served as Document;
  const ajv = new Ajv2020({ strict: false, validateFormats: true, logger: false });
  ajv.addFormat("date-time", /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/);
  ajv.addSchema({ $id: "api", ...document });
  const validators = new Map<string, ValidateFunction>();
  const validator = (pointer: string): ValidateFunction => {
    const known = validators.get(pointer);
    if (known !== undefined) return known;
    const compiled = ajv.compile({ $ref: `api#${pointer}` });
    validators.set(pointer, compiled);
    return compiled;
  };
  const operations = Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, declared]) => ({
      id: declared.operationId,
      method: method.toUpperCase(),
      path,
      parameters: declared.parameters ?? [],
      body: declared.requestBody?.content?.["application/json"]?.schema ?? null,
      role: declared["x-newleaf-role"],
    })),
  );
  return {
    operations,
    judge({ id, method, path }, { status, headers, text, json }) {
      const response = document.paths[path]?.[method.toLowerCase()]?.responses[String(status)];
      const said = `${id} ${status}`;
      if (response === undefined) return `${said} is not documented: ${text.slice(0, 300)}`;
      if (response.content === undefined) return text === "" ? null : `${said} has a body: ${text.slice(0, 300)}`;
      const type = String(headers["content-type"] ?? "").split(";")[0] ?? "";
      if (response.content[type] === undefined) return `${said} is of the undocumented type "${type}"`;
      if (type === "text/csv") return null;
      const parts = ["paths", path, method.toLowerCase(), "responses", String(status), "content", type, "schema"];
      const isValid = validator(parts.map((part) => `/${escaped(part)}`).join(""));
      if (isValid(json)) return null;
      return `${said}: ${JSON.stringify(isValid.errors?.slice(0, 3))} in ${text.slice(0, 500)}`;
    },
    resolve(schema) {
      const { $ref } = schema;
      if (typeof $ref !== "string") return schema;
      return document.components.schemas[$ref.split("/").at(-1) ?? ""] ?? {};
    },
  };
}

/** As a JSON Pointer in a URI fragment. */
function escaped(part: string): string {
  return encodeURIComponent(part.replaceAll("~", "~0").replaceAll("/", "~1"));
}
