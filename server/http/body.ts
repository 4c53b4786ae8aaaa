/** Request bodies: JSON, bounded, validated by the same schemas that document them. */
import { createHash } from "node:crypto";
import type { IncomingMessage } from "node:http";
import express, { type Request, type RequestHandler } from "express";
import { AppError } from "@newleaf/shared/problems";
import { z } from "zod";

/** A CSR of at most 64 KiB as PEM, and what stands around it. */
const maxBody = 128 * 1024;

/** A large inventory. */
const maxInventoryBody = 32 * 1024 * 1024;

/** Parses JSON bodies; anything else is 415, a body too large 413. */
export function jsonBody({ large = false }: { large?: boolean } = {}): RequestHandler[] {
  return [
    requireJson,
    express.json({
      limit: large ? maxInventoryBody : maxBody,
      strict: true,
      type: () => true,
      inflate: false,
      verify: (request, _response, bytes) => void hashes.set(request, sha256(bytes)),
    }),
  ];
}

const hashes = new WeakMap<IncomingMessage, string>();

/** SHA-256, hex, of the bytes of the body that was parsed; of none where there was none. */
export function bodyHashOf(request: Request): string {
  return hashes.get(request) ?? sha256("");
}

function sha256(bytes: string | Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Bodies are JSON, also where none is looked at. */
export const requireJson: RequestHandler = (request, _response, next) => {
  if (!hasBody(request)) return next();
  const type = (request.headers["content-type"] ?? "").split(";")[0]?.trim().toLowerCase();
  if (type !== "application/json") throw new AppError("media-type-unsupported", "Send the body as application/json");
  next();
};

export function hasBody(request: Request): boolean {
  const { "content-length": length, "transfer-encoding": encoding } = request.headers;
  return encoding !== undefined || (length !== undefined && length !== "0");
}

/** @throws AppError request-invalid that names the field */
export function parseBody<T extends z.ZodType>(schema: T, request: Request): z.output<T> {
  return check(schema, request.body ?? {}, "");
}

/** @throws AppError request-invalid that names the parameter */
export function parseQuery<T extends z.ZodType>(schema: T, request: Request): z.output<T> {
  return check(schema, { ...request.query }, "?");
}

function check<T extends z.ZodType>(schema: T, value: unknown, prefix: string): z.output<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const where = issue === undefined || issue.path.length === 0 ? "" : `${prefix}${issue.path.join(".")}: `;
  throw new AppError("request-invalid", `${where}${issue?.message ?? "not valid"}`);
}
