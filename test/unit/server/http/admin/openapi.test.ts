import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Ajv2020 } from "ajv/dist/2020.js";
import { problems } from "../../../../../shared/problems.ts";
import type { Authority } from "../../../../../server/authority/authority.ts";
import { acts } from "../../../../../server/authority/permissions.ts";
import { columnsOf, csvOf } from "../../../../../server/http/admin/csv.ts";
import { openApiDocument } from "../../../../../server/http/admin/openapi.ts";
import { operations } from "../../../../../server/http/admin/operations.ts";
import { adminApp } from "../../../../../server/http/admin/router.ts";
import { routesOf } from "../../../../support/routes.ts";
import { openApiShape } from "../../../../support/openapi-shape.ts";

interface DocumentOperation {
  readonly operationId: string;
  readonly parameters: readonly { readonly name: string; readonly in: string; readonly required: boolean }[];
  readonly responses: Readonly<Record<string, unknown>>;
  readonly "x-newleaf-role": string;
}

const document = openApiDocument(operations);
const documented = Object.entries(document.paths).flatMap(([path, item]) =>
  Object.entries(item).map(([method, declared]) => ({
    path,
    method,
    declared: declared as unknown as DocumentOperation,
  })),
);

describe("openapi.json", () => {
  it("holds every route that is mounted on the admin listener, and no other", () => {
    // Mounting asks nothing of the authority.
    const mounted = routesOf(adminApp({} as Authority)).map((route) => route.replaceAll(/:(\w+)/g, "{$1}"));
    const described = documented.map(({ path, method }) => `${method.toUpperCase()} ${path}`);
    assert.ok(mounted.length > 25, `only ${mounted.length} routes were found: has Express changed its inside?`);
    assert.deepEqual(described.toSorted(), mounted.toSorted());
  });

  it("is a valid OpenAPI 3.1 document", () => {
    const isValid = new Ajv2020({ strict: false, validateFormats: false }).compile(openApiShape);
    assert.ok(isValid(document), JSON.stringify(isValid.errors, null, 1));
  });

  it("refers only to what it holds, and holds nothing that is not referred to", () => {
    const text = JSON.stringify(document);
    const referred = new Set([...text.matchAll(/"\$ref":"#\/components\/([^"]+)"/g)].map(([, name]) => name ?? ""));
    assert.equal([...text.matchAll(/"\$ref":"(?!#\/components\/)/g)].length, 0, "every $ref points into components");
    const held = (["schemas", "headers"] as const).flatMap((kind) =>
      Object.keys(document.components[kind] as object).map((name) => `${kind}/${name}`),
    );
    assert.deepEqual([...referred].toSorted(), held.toSorted());
  });

  it("has schemas that are JSON Schema 2020-12", () => {
    const ajv = new Ajv2020({ strict: false, validateFormats: false });
    ajv.addSchema({ $id: "document", ...document });
    for (const name of Object.keys(document.components["schemas"] as object)) {
      assert.ok(ajv.getSchema(`document#/components/schemas/${name}`) !== undefined, name);
    }
  });

  it("has a unique operationId, and a declared parameter for each part of a path", () => {
    const ids = documented.map(({ declared }) => declared.operationId);
    assert.equal(new Set(ids).size, ids.length, ids.join(", "));
    for (const { path, declared } of documented) {
      const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
      const parameters = declared.parameters.filter((parameter) => parameter.in === "path");
      assert.deepEqual(
        parameters.map(({ name }) => name),
        inPath,
        path,
      );
      assert.ok(
        parameters.every(({ required }) => required),
        path,
      );
    }
  });

  it("says of every change that it needs X-Newleaf-Client, and of every operation who may do it", () => {
    for (const { method, declared } of documented) {
      const header = declared.parameters.find(({ name }) => name === "X-Newleaf-Client");
      assert.equal(header?.required ?? false, method !== "get", declared.operationId);
    }
    for (const { id, act } of operations) {
      const found = documented.find(({ declared }) => declared.operationId === id);
      assert.equal(found?.declared["x-newleaf-role"], acts[act], id);
    }
  });

  it("groups the codes of each refusal under their status", () => {
    for (const { declared } of documented) {
      for (const [status, response] of Object.entries(declared.responses)) {
        const [, list = ""] = /"code":\{"enum":(\[[^\]]+\])/.exec(JSON.stringify(response)) ?? [];
        const codes = list === "" ? [] : (JSON.parse(list) as (keyof typeof problems)[]);
        assert.equal(codes.length > 0, Number(status) >= 400, `${declared.operationId} ${status}`);
        for (const code of codes)
          assert.equal(problems[code].status, Number(status), `${declared.operationId} ${code}`);
      }
    }
  });

  it("refuses two different schemas of one name", async () => {
    const { z } = await import("zod");
    const [first, second] = operations;
    assert.ok(first !== undefined && second !== undefined);
    const named = (schema: object) => ({ 200: z.strictObject(schema as never).meta({ id: "Twice" }) });
    const clash = [
      { ...first, answers: named({ a: z.string() }) },
      { ...second, answers: named({ b: z.string() }) },
    ];
    assert.throws(() => openApiDocument(clash), /two different schemas are named Twice/);
  });
});

describe("lists as CSV", () => {
  it("gives every list its columns, what is nested too", () => {
    const columns = (id: string) =>
      (columnsOf(operations.find((declared) => declared.id === id) ?? { answers: {} }) ?? []).map((column) =>
        column.join("."),
      );
    assert.deepEqual(columns("listTokens").slice(0, 3), ["id", "identity", "state"]);
    assert.ok(columns("listIdentities").includes("leaf.serial"));
    assert.ok(columns("listIdentities").includes("names.dns"));
    assert.ok(columns("listCertificates").includes("renewal.start"));
    assert.deepEqual(columns("getStatus"), []);
  });

  it("quotes as RFC 4180 says, and takes the harm out of formulas", () => {
    const columns = [["a"], ["b", "c"], ["d"]];
    const items = [
      { a: '=HYPERLINK("x")', b: { c: -5 }, d: ["x", "y"] },
      { a: "two\r\nlines, one cell", b: null, d: { k: "v" } },
      { a: "@now", b: { c: "+1" }, d: "-1" },
    ];
    assert.equal(
      csvOf(columns, items),
      `a,b.c,d\r\n"'=HYPERLINK(""x"")",-5,x y\r\n"two\r\nlines, one cell",,"{""k"":""v""}"\r\n'@now,'+1,'-1\r\n`,
    );
  });
});
