/** How answers leave: JSON as Buffers (no charset is appended), and what may be cached with validators and an age that is true. */
import { createHash } from "node:crypto";
import type { Request, Response } from "express";
import { mediaTypes } from "@newleaf/shared/api";

export function sendJson(response: Response, status: number, body: unknown): void {
  response.status(status);
  response.setHeader("Content-Type", mediaTypes.json);
  if (!response.hasHeader("Cache-Control")) response.setHeader("Cache-Control", "no-store");
  response.end(JSON.stringify(body));
}

export interface Cacheable {
  readonly body: Buffer;
  readonly type: string;
  readonly lastModified: number;
  /** Seconds; never beyond what the content itself says of its life. */
  readonly maxAge: number;
}

/** 200 with validators, or 304 when the caller has these very bytes. */
export function sendCacheable(
  request: Request,
  response: Response,
  { body, type, lastModified, maxAge }: Cacheable,
): void {
  const etag = `"${createHash("sha256").update(body).digest("base64url")}"`;
  response.setHeader("ETag", etag);
  response.setHeader("Last-Modified", new Date(lastModified).toUTCString());
  response.setHeader("Cache-Control", `public, max-age=${Math.max(0, Math.floor(maxAge))}, must-revalidate`);
  if (isUnchanged(request, etag, lastModified)) {
    response.status(304).end();
    return;
  }
  response.setHeader("Content-Type", type);
  response.setHeader("Content-Length", String(body.length));
  response.end(request.method === "HEAD" ? undefined : body);
}

/** RFC 9110 §13.2.2. Not Express's `fresh`: that sends everything again to who says `no-cache`, though we are the origin. */
function isUnchanged({ headers }: Request, etag: string, lastModified: number): boolean {
  const known = headers["if-none-match"];
  if (known !== undefined) {
    return known === "*" || known.split(",").some((tag) => tag.trim().replace(/^W\//, "") === etag);
  }
  const since = headers["if-modified-since"];
  return since !== undefined && Math.floor(lastModified / 1000) * 1000 <= Date.parse(since);
}
