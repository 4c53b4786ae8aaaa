import { z } from "zod";
import type { Authority } from "../../authority/authority.ts";
import { isoTime } from "../../authority/issue.ts";
import {
  addOperator,
  listOperators,
  removeOperator,
  requireOperator,
  setRole,
} from "../../authority/inventory/operators.ts";
import type { IdentityRow } from "../../store/identities.ts";
import {
  type AnswerOf,
  certificateState,
  fingerprint,
  listOf,
  namesAnswer,
  nullable,
  roleName,
  serial,
  time,
} from "./answer-schemas.ts";
import { operation } from "./operation.ts";
import { operatorSchema, pageSchema, roleSchema } from "./schemas.ts";

const operatorFields = {
  id: z.string(),
  role: roleName,
  state: z.enum(["active", "suspended"]),
  names: namesAnswer,
  labels: z.record(z.string(), z.string()),
  leaf: nullable(z.strictObject({ serial, notAfter: time, state: certificateState, fingerprint })).describe(
    "the certificate in force; null: he cannot act",
  ),
  createdAt: time,
};

const operatorAnswer = z.strictObject(operatorFields).meta({ id: "Operator" });

const addedAnswer = z
  .strictObject({
    ...operatorFields,
    token: z.string().describe("for newleaf login, once; shown in no other answer"),
    expiresAt: time.describe("of the token"),
    rootFingerprint: fingerprint,
  })
  .meta({ id: "AddedOperator" });

export const operatorOperations = [
  operation({
    id: "listOperators",
    method: "get",
    path: "/v1/operators",
    act: "operators.read",
    summary: "The operators and their roles",
    query: pageSchema,
    answers: { 200: listOf(operatorAnswer) },
    async handle(authority, { query }) {
      const page = await listOperators(authority, query);
      const items = await Promise.all(page.items.map((row) => describeOperator(authority, row)));
      return { status: 200, body: { items, nextCursor: page.nextCursor } };
    },
  }),
  operation({
    id: "addOperator",
    method: "post",
    path: "/v1/operators",
    act: "operators.write",
    summary: "Adds an operator; the token in the answer brings the first certificate and is shown once",
    body: operatorSchema,
    answers: { 201: addedAnswer },
    problems: ["conflict"],
    async handle(authority, { caller, body }) {
      const { ttl, ...wanted } = body;
      const { operator, token } = await addOperator(authority, caller, wanted, ttl);
      const { expiresAt, rootFingerprint } = token;
      return {
        status: 201,
        body: {
          ...(await describeOperator(authority, operator)),
          token: token.token,
          expiresAt: isoTime(expiresAt),
          rootFingerprint,
        } satisfies AnswerOf<typeof addedAnswer>,
        headers: { Location: `/v1/operators/${encodeURIComponent(operator.id)}` },
      };
    },
  }),
  operation({
    id: "getOperator",
    method: "get",
    path: "/v1/operators/{id}",
    act: "operators.read",
    summary: "One operator",
    answers: { 200: operatorAnswer },
    problems: ["not-found"],
    async handle(authority, { param }) {
      return { status: 200, body: await describeOperator(authority, await requireOperator(authority, param("id"))) };
    },
  }),
  operation({
    id: "setOperatorRole",
    method: "patch",
    path: "/v1/operators/{id}",
    act: "operators.write",
    summary: "Another role, from the operator's next request on",
    body: roleSchema,
    answers: { 200: operatorAnswer },
    problems: ["not-found", "conflict"],
    async handle(authority, { caller, param, body }) {
      const row = await setRole(authority, caller, param("id"), body.role);
      return { status: 200, body: await describeOperator(authority, row) };
    },
  }),
  operation({
    id: "removeOperator",
    method: "delete",
    path: "/v1/operators/{id}",
    act: "operators.write",
    summary: "Revokes the operator's certificates and removes the operator",
    answers: { 204: null },
    problems: ["not-found", "conflict"],
    async handle(authority, { caller, param }) {
      await removeOperator(authority, caller, param("id"));
      return { status: 204 };
    },
  }),
];

async function describeOperator(
  { store, clock }: Authority,
  row: IdentityRow,
): Promise<AnswerOf<typeof operatorAnswer>> {
  const [leaf] = await store.listUsable(row.id, clock.now());
  return {
    id: row.id,
    // The lesser reading of a row that could not be: an operator has a role.
    role: row.role ?? "viewer",
    state: row.state === "suspended" ? "suspended" : "active",
    names: row.names,
    labels: row.labels,
    leaf:
      leaf === undefined
        ? null
        : { serial: leaf.serial, notAfter: isoTime(leaf.notAfter), state: leaf.state, fingerprint: leaf.fingerprint },
    createdAt: isoTime(row.createdAt),
  };
}
