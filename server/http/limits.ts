/** Limits of requests at the HTTP edge: one leaf's, one network's; and what the line needs to know of a client that has gone. */
import type { RequestHandler, Response } from "express";
import { refuseNoisyNetwork, takeEnrollment, takeRequest } from "../authority/herd/herd.ts";
import type { Authority } from "../authority/authority.ts";
import { contextOf, leafOf } from "./context.ts";
import { peerOf } from "./peer.ts";

/** Before the gate. Whoever presents a leaf that TLS verified is not held up by what his neighbours behind the same address do. */
export function limitStrangers(authority: Authority): RequestHandler {
  return (request, _response, next) => {
    if (peerOf(request)?.verified !== true) refuseNoisyNetwork(authority.herd, contextOf(request).caller);
    next();
  };
}

/** After the gate. Operators pass. */
export function limitLeaf(authority: Authority): RequestHandler {
  return (request, _response, next) => {
    const { profile, serial } = leafOf(request);
    if (profile !== "operator") takeRequest(authority.herd, serial);
    next();
  };
}

/** Before an enrollment's body is read. */
export function limitEnrollments(authority: Authority): RequestHandler {
  return (request, _response, next) => {
    takeEnrollment(authority.herd, contextOf(request).caller);
    next();
  };
}

/** Aborts when the client closes the connection before it was answered. */
export function goneSignal(response: Response): AbortSignal {
  const gone = new AbortController();
  response.once("close", () => {
    if (!response.writableFinished) gone.abort();
  });
  return gone.signal;
}
