/** Requests to the admin API made from its own document: valid, nearly valid, and nothing of the kind. Each answer is judged by the document. */
import { setTimeout as sleep } from "node:timers/promises";
import { Chance, type Known, makeValue, parameterText, spoil, wildText } from "./api-values.ts";
import { type DocumentedOperation, type Judge, openApiJudge } from "./openapi-judge.ts";
import type { AdminAnswer, AdminRequest, OperatorClient } from "./admin-clients.ts";

export interface FuzzPlan {
  readonly client: OperatorClient;
  readonly requests: number;
  readonly seed: number;
  /** Names that no write may be about: the fuzzer's own operators, and the issuer everything hangs on. */
  readonly spare: readonly string[];
  /** Values that exist, by what they are; answers add to them. */
  readonly known: Known;
}

export interface FuzzReport {
  readonly requests: number;
  readonly seconds: number;
  /** `listTokens 200` → how often. */
  readonly outcomes: ReadonlyMap<string, number>;
  readonly faults: readonly string[];
}

const inFlight = 8;
const maxFaults = 40;
/** These write files or wait: enough of them says as much as many. */
const rare: ReadonlySet<string> = new Set(["createBackup"]);

export async function readJudge(client: OperatorClient): Promise<Judge> {
  return openApiJudge((await client.send({ method: "GET", path: "/openapi.json" })).json);
}

/** Sends the plan's requests, over kept connections, and judges what comes back. */
export async function fuzzApi(judge: Judge, plan: FuzzPlan): Promise<FuzzReport> {
  const chance = new Chance(plan.seed);
  const outcomes = new Map<string, number>();
  const faults: string[] = [];
  let sent = 0;
  const begun = performance.now();
  const worker = async (): Promise<void> => {
    while (sent < plan.requests && faults.length < maxFaults) {
      sent += 1;
      if (chance.of(0.02)) {
        const fault = await strayed(chance, plan);
        if (fault !== null) faults.push(fault);
        continue;
      }
      const operation = chooseOperation(chance, judge.operations);
      const request = makeRequest(chance, judge, operation, plan);
      const fault = await judged(judge, plan, operation, request, outcomes);
      if (fault !== null) faults.push(`${fault}\n    sent: ${shown(request)}`);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, worker));
  return { requests: sent, seconds: (performance.now() - begun) / 1000, outcomes, faults };
}

/** To no operation at all: whatever it is, it is refused as a problem. */
async function strayed(chance: Chance, { client, known }: FuzzPlan): Promise<string | null> {
  const method = chance.pick(["PUT", "OPTIONS", "TRACE", "PROPFIND", "PATCH", "POST", "DELETE"]);
  const place = chance.pick(["", "v1", "v1/tokens", "v1/audit", "V1/TOKENS", "openapi.json/", "v1/identities/", "v2"]);
  const rest = chance.of(0.5) ? "" : `/${encode(known.one(chance, "id"))}/${encode(wildText(chance))}`;
  const request = { method, path: `/${place}/none${rest}`, headers: headersOf(chance, true), body: "{}" };
  const { status, headers } = await client.send(request);
  const isProblem = status >= 400 && status < 500 && headers["content-type"] === "application/problem+json";
  return isProblem ? null : `stray: ${status} for ${shown(request)}`;
}

async function judged(
  judge: Judge,
  { client, known }: FuzzPlan,
  operation: DocumentedOperation,
  request: AdminRequest,
  outcomes: Map<string, number>,
): Promise<string | null> {
  let answer: AdminAnswer;
  try {
    answer = await client.send(request);
  } catch (error) {
    // The connection may have been closed between two requests: once more, on a new one.
    await sleep(10);
    try {
      answer = await client.send(request);
    } catch {
      return `${operation.id}: no answer (${String(error)})`;
    }
  }
  const outcome = `${operation.id} ${answer.status}`;
  outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  learn(known, answer.json, kindOf(operation.path));
  if (answer.status >= 500 && answer.status !== 503) return `${operation.id}: ${answer.status} ${answer.text}`;
  return judge.judge(operation, answer);
}

function chooseOperation(chance: Chance, operations: readonly DocumentedOperation[]): DocumentedOperation {
  while (true) {
    const operation = chance.pick(operations);
    if (!rare.has(operation.id) || chance.of(0.02)) return operation;
  }
}

function makeRequest(
  chance: Chance,
  judge: Judge,
  { id, method, path, parameters, body }: DocumentedOperation,
  { known, spare }: FuzzPlan,
): AdminRequest {
  const isWrite = method !== "GET";
  const noted = (value: string) => (isWrite && spare.some((name) => value.includes(name)) ? "spared" : value);
  const filled = path.replaceAll(/\{(\w+)\}/g, (_, name: string) => {
    const value = chance.of(0.75) ? known.one(chance, name === "id" ? kindOf(path) : name) : wildText(chance);
    return chance.of(0.01) ? "%zz" : encodePath(noted(value === "" ? "-" : value));
  });
  const query = parameters
    .filter((parameter) => parameter.in === "query" && chance.of(parameter.required === true ? 0.9 : 0.3))
    .map(({ name, schema }) => `${name}=${encode(parameterText(chance, known, name, schema))}`);
  if (chance.of(0.03)) query.push(`${encode(wildText(chance).slice(0, 40))}=1`);
  if (chance.of(0.02)) query.push("limit=1&limit=2");
  const headers = headersOf(chance, isWrite);
  const payload = body === null ? (chance.of(0.02) ? {} : undefined) : bodyOf(chance, judge, known, body);
  const request = {
    method,
    path: `${filled}${query.length === 0 ? "" : `?${query.join("&")}`}`.slice(0, 12_000),
    headers: payload === undefined || chance.of(0.02) ? headers : { ...headers, "content-type": "application/json" },
    ...(payload === undefined ? {} : { body: typeof payload === "string" ? payload : JSON.stringify(payload) }),
  };
  const isSpared = isWrite && spare.some((name) => (request.body ?? "").includes(name));
  return isSpared || isWhole(id, request.body ?? "") ? { ...request, body: "{}" } : request;
}

/** An inventory that prunes ends the world that the other requests are about. */
function isWhole(id: string, body: string): boolean {
  return id === "applyInventory" && /"prune":true/.test(body);
}

function bodyOf(chance: Chance, judge: Judge, known: Known, schema: Readonly<Record<string, unknown>>): unknown {
  const value = makeValue(chance, known, schema, judge.resolve);
  if (chance.of(0.6)) return value;
  if (chance.of(0.7)) return spoil(chance, value);
  return chance.pick([
    "{",
    "",
    "null",
    "[]",
    "5",
    '"text"',
    "\u0000",
    `{"a":${"[".repeat(2000)}${"]".repeat(2000)}}`,
    JSON.stringify({ huge: "x".repeat(200_000) }),
    '{"__proto__": {"id": "polluted"}, "constructor": {"prototype": {"id": "x"}}}',
    '{"id": "twice", "id": "thrice"}',
    JSON.stringify(value).slice(0, -1),
  ]);
}

function headersOf(chance: Chance, isWrite: boolean): Record<string, string> {
  return {
    ...(isWrite && chance.of(0.97) ? { "x-newleaf-client": "fuzz" } : {}),
    ...(isWrite && chance.of(0.1) ? { "idempotency-key": `fuzz-key-${chance.below(50)}-0123456789` } : {}),
    ...(chance.of(0.1)
      ? { accept: chance.pick(["text/csv", "application/json", "*/*", "image/png", "text/csv;q=0.1"]) }
      : {}),
    ...(chance.of(0.01) ? { origin: "https://evil.example" } : {}),
  };
}

/** What the `id` of a path or its answers is of: `tokens`. */
function kindOf(path: string): string {
  return path.split("/")[2] ?? "";
}

/** Everything of an answer that a later request may name. */
function learn(known: Known, json: unknown, kind: string): void {
  if (typeof json !== "object" || json === null) return;
  for (const [name, value] of Object.entries(json)) {
    if (typeof value === "string") known.add(name === "id" ? kind : name, value);
    else if (Array.isArray(value)) for (const part of value.slice(0, 20)) learn(known, part, kind);
    else learn(known, value, kind);
  }
}

function encode(text: string): string {
  return encodeURIComponent(text.toWellFormed());
}

/** `.` and `..` alone would be another path. */
function encodePath(text: string): string {
  const encoded = encode(text);
  return /^\.{1,2}$/.test(encoded) ? encoded.replaceAll(".", "%2E") : encoded;
}

function shown({ method, path, headers, body }: AdminRequest): string {
  return `${method} ${path.slice(0, 300)} ${JSON.stringify(headers)} ${(JSON.stringify(body) ?? "").slice(0, 300)}`;
}
