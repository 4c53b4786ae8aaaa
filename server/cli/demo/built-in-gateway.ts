/** A gateway for machines without nginx: a Node server that watches its files, as an OpenClaw gateway does. */
import { constants } from "node:crypto";
import { once } from "node:events";
import { readFile, realpath } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:https";
import { join } from "node:path";
import type { SecureContextOptions, TLSSocket } from "node:tls";
import { DemoFailure } from "./failure.ts";
import type { Gateway, GatewayOptions, GatewayPlan } from "./gateway.ts";
import type { Stage } from "./stage.ts";

const watchEveryMs = 100;

export function planBuiltInGateway(
  stage: Stage,
  options: GatewayOptions,
  { port, why }: { port: number; why: string },
): GatewayPlan {
  return {
    name: "built-in gateway",
    description: `built-in gateway (${why})`,
    port,
    agentSettings: { reload: "watch" },
    start: () => start(stage, options, port),
  };
}

async function start(stage: Stage, options: GatewayOptions, port: number): Promise<Gateway> {
  const refusals: string[] = [];
  const answer = (request: IncomingMessage, response: ServerResponse): void => {
    const { authorized, authorizationError } = request.socket as TLSSocket;
    // Like nginx: the handshake is completed, so that the refusal can say why.
    const refusal = authorized ? null : reasonOf(authorizationError);
    if (refusal !== null) refusals.push(refusal);
    response.writeHead(refusal === null ? 200 : 400, { "content-type": "text/plain", connection: "close" });
    response.end(`${refusal ?? "ok"}\n`);
  };
  let loaded = await realpath(options.files);
  const server = createServer({ ...(await load(loaded)), requestCert: true, rejectUnauthorized: false }, answer);
  server.listen(port, "127.0.0.1");
  await once(server, "listening");

  const look = async (): Promise<void> => {
    const present = await realpath(options.files);
    if (present === loaded) return;
    // Everything at once: setSecureContext resets whatever is left out.
    server.setSecureContext(await load(present));
    loaded = present;
    options.onReloaded();
  };
  let looking = Promise.resolve();
  const timer = setInterval(() => {
    looking = looking.then(look).catch((error: unknown) => {
      stage.fail(new DemoFailure(`the built-in gateway could not take the new files: ${String(error)}`));
    });
  }, watchEveryMs);

  return {
    takeRefusals: () => refusals.splice(0),
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      await looking;
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

/** One version of the files: the link was resolved once, so they belong together. */
async function load(version: string): Promise<SecureContextOptions> {
  const read = (name: string): Promise<string> => readFile(join(version, name), "utf8");
  const crls = await read("crl.pem");
  return {
    key: await read("key.pem"),
    cert: await read("fullchain.pem"),
    ca: await read("ca.pem"),
    // Node reads only the first CRL of a string.
    crl: crls.match(/-----BEGIN X509 CRL-----[^-]+-----END X509 CRL-----/g) ?? [],
    // A resumed session would not look at the CRL again.
    secureOptions: constants.SSL_OP_NO_TICKET,
  };
}

/** In OpenSSL's words, as nginx says it. Node's types call it an Error; it is the code. */
function reasonOf(error: unknown): string {
  const code = typeof error === "string" ? error : error instanceof Error ? error.message : "no certificate";
  return code === "CERT_REVOKED" ? "certificate revoked" : code;
}
