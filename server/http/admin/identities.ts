import { z } from "zod";
import type { Authority, Caller } from "../../authority/authority.ts";
import { addIdentity, changeIdentity, removeIdentity, setSuspended } from "../../authority/inventory/identities.ts";
import { requireIdentity } from "../../authority/inventory/inventory.ts";
import { isoTime } from "../../authority/issue.ts";
import { grantRecovery } from "../../authority/enrollment/tokens.ts";
import { identityId, listOf, time } from "./answer-schemas.ts";
import { describeIdentities, describeIdentity, identityAnswer, identityWithWarnings } from "./identity-answer.ts";
import type { Answer } from "./operation.ts";
import { operation } from "./operation.ts";
import { grantSchema, identityPatchSchema, identityQuery, identitySchema, readMoment } from "./schemas.ts";

const grantAnswer = z
  .strictObject({ id: z.string(), identity: identityId, expiresAt: time })
  .meta({ id: "RecoveryGrant" });

const readOperations = [
  operation({
    id: "listIdentities",
    method: "get",
    path: "/v1/identities",
    act: "identities.read",
    summary: "The inventory, and what each identity has issued, installed and served",
    query: identityQuery,
    answers: { 200: listOf(identityAnswer) },
    async handle(authority, { query }) {
      const { expiresBefore, ...filter } = query;
      const now = authority.clock.now();
      const page = await authority.store.listIdentities({
        ...filter,
        now,
        ...(expiresBefore === undefined ? {} : { expiresBefore: readMoment(expiresBefore, now) }),
      });
      const items = await describeIdentities(authority, page.items);
      return { status: 200, body: { items, nextCursor: page.nextCursor } };
    },
  }),
  operation({
    id: "getIdentity",
    method: "get",
    path: "/v1/identities/{id}",
    act: "identities.read",
    summary: "One identity",
    answers: { 200: identityAnswer },
    problems: ["not-found"],
    handle: (authority, { param }) => answerWith(authority, param("id")),
  }),
];

const changeOperations = [
  operation({
    id: "addIdentity",
    method: "post",
    path: "/v1/identities",
    act: "identities.write",
    summary: "Adds an identity to the inventory",
    body: identitySchema,
    answers: { 201: identityWithWarnings },
    problems: ["conflict", "key-in-use", "key-blocked"],
    async handle(authority, { caller, body }) {
      const warnings = await addIdentity(authority, caller, body);
      const row = await requireIdentity(authority, body.id);
      return {
        status: 201,
        body: { ...(await describeIdentity(authority, row)), warnings },
        headers: { Location: `/v1/identities/${encodeURIComponent(body.id)}` },
      };
    },
  }),
  operation({
    id: "changeIdentity",
    method: "patch",
    path: "/v1/identities/{id}",
    act: "identities.write",
    summary: "Changes what is given; a list given replaces the list",
    body: identityPatchSchema,
    answers: { 200: identityWithWarnings },
    problems: ["not-found", "identity-unknown", "conflict", "key-in-use", "key-blocked"],
    async handle(authority, { caller, param, body }) {
      const id = param("id");
      const warnings = await changeIdentity(authority, caller, id, body);
      const row = await requireIdentity(authority, id);
      return { status: 200, body: { ...(await describeIdentity(authority, row)), warnings } };
    },
  }),
  operation({
    id: "removeIdentity",
    method: "delete",
    path: "/v1/identities/{id}",
    act: "identities.remove",
    summary: "Revokes its usable leaves and removes it",
    answers: { 204: null },
    problems: ["not-found", "conflict"],
    async handle(authority, { caller, param }) {
      await removeIdentity(authority, caller, param("id"));
      return { status: 204 };
    },
  }),
];

const standingOperations = [
  operation({
    id: "suspendIdentity",
    method: "post",
    path: "/v1/identities/{id}/suspension",
    act: "identities.suspend",
    summary: "It is refused everywhere until it is resumed",
    answers: { 200: identityAnswer },
    problems: ["not-found", "identity-unknown"],
    handle: (authority, { caller, param }) => suspend(authority, caller, param("id"), true),
  }),
  operation({
    id: "resumeIdentity",
    method: "delete",
    path: "/v1/identities/{id}/suspension",
    act: "identities.suspend",
    summary: "Ends a suspension",
    answers: { 200: identityAnswer },
    problems: ["not-found", "identity-unknown"],
    handle: (authority, { caller, param }) => suspend(authority, caller, param("id"), false),
  }),
  operation({
    id: "grantRecovery",
    method: "post",
    path: "/v1/identities/{id}/recovery-grants",
    act: "recovery.grant",
    summary: "Lets an expired identity come back once, with its last key or an approved one",
    body: grantSchema,
    answers: { 201: grantAnswer },
    problems: ["identity-unknown"],
    async handle(authority, { caller, param, body }) {
      const identity = param("id");
      const { id, expiresAt } = await grantRecovery(authority, caller, identity, body.ttl);
      return { status: 201, body: { id, identity, expiresAt: isoTime(expiresAt) } };
    },
  }),
];

export const identityOperations = [...readOperations, ...changeOperations, ...standingOperations];

async function suspend(authority: Authority, caller: Caller, id: string, suspended: boolean): Promise<Answer> {
  await setSuspended(authority, caller, id, suspended);
  return answerWith(authority, id);
}

async function answerWith(authority: Authority, id: string): Promise<Answer> {
  return { status: 200, body: await describeIdentity(authority, await requireIdentity(authority, id)) };
}
