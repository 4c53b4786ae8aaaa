import { z } from "zod";
import { readStatus } from "../../authority/status.ts";
import {
  certificateState,
  count,
  issuerState,
  identityId,
  nullable,
  profileName,
  serial,
  time,
} from "./answer-schemas.ts";
import { operation } from "./operation.ts";

const statusAnswer = z
  .strictObject({
    time,
    attention: z.strictObject({
      expiringWithin7Days: z.array(z.strictObject({ identity: identityId, serial, notAfter: time })),
      renewalOverdue: count,
      renewalUnconfirmed: count,
      installedNotServed: z.array(identityId),
      silent: z.array(z.strictObject({ identity: identityId, lastSeen: time })),
      lockedLineages: count,
      approvalsPending: count,
      rootKeyOnThisHost: z.boolean(),
    }),
    certificates: z.array(
      z.strictObject({
        state: certificateState,
        profile: profileName,
        count,
      }),
    ),
    bundleVersion: count,
    issuers: z.array(
      z.strictObject({
        id: z.string(),
        kind: z.enum(["root", "intermediate"]),
        state: issuerState,
        notAfter: time,
        crl: nullable(z.strictObject({ number: count, thisUpdate: time, nextUpdate: time })),
      }),
    ),
  })
  .meta({ id: "Status" });

export const statusOperations = [
  operation({
    id: "getStatus",
    method: "get",
    path: "/v1/status",
    act: "status.read",
    summary: "What needs a hand, then how many of what",
    answers: { 200: statusAnswer },
    async handle(authority) {
      return { status: 200, body: await readStatus(authority) };
    },
  }),
];
