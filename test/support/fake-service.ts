/** Stands in for the service's published part where the real one would never say such things: bundles and CRLs as a test wants them. */
import { createServer } from "node:https";
import type { Bundle } from "@newleaf/shared/api";
import { pemEncode } from "@newleaf/shared/pem";
import { authorityId } from "../../agent-client/install/material.ts";
import { readCrl } from "@newleaf/shared/crl";
import type { TestAuthority } from "./test-ca.ts";
import { listen } from "./tls-server.ts";

export interface Published {
  version: number;
  roots: readonly Buffer[];
  crossCertificates: readonly Buffer[];
  issuers: readonly Buffer[];
  /** CA id → CRL. */
  crls: Map<string, Buffer>;
}

export interface FakeService extends AsyncDisposable {
  readonly url: string;
  readonly published: Published;
  /** `GET /v1/bundle` and so on, in order. */
  readonly requests: readonly string[];
}

export function publish(root: TestAuthority, intermediate: TestAuthority, number = 1): Published {
  return {
    version: 1,
    roots: [root.certificate],
    crossCertificates: [],
    issuers: [intermediate.certificate],
    crls: new Map([root, intermediate].map((ca) => [authorityId(ca.certificate), ca.crl({ number })])),
  };
}

/** TLS with a leaf of `intermediate`; the bundle has a true ETag. */
export async function startFakeService(published: Published, intermediate: TestAuthority): Promise<FakeService> {
  const leaf = intermediate.issue({ names: ["DNS:localhost", "IP:127.0.0.1"] });
  const requests: string[] = [];
  const server = createServer(
    {
      key: leaf.key.export({ type: "pkcs8", format: "pem" }),
      cert: [leaf.certificate, intermediate.certificate].map((der) => pemEncode("CERTIFICATE", der)).join(""),
    },
    (request, response) => {
      requests.push(`${request.method} ${request.url}`);
      const crl = published.crls.get(/^\/crl\/([0-9a-f]+)\.crl$/.exec(request.url ?? "")?.[1] ?? "");
      if (request.url === "/roots.pem") {
        response.setHeader("content-type", "application/x-pem-file");
        return void response.end(published.roots.map((der) => pemEncode("CERTIFICATE", der)).join(""));
      }
      if (crl !== undefined) {
        response.setHeader("content-type", "application/pkix-crl");
        return void response.end(crl);
      }
      const body = JSON.stringify(bundleOf(published));
      const etag = `"${Buffer.from(body).toString("base64url").length}-${published.version}-${[...published.crls.values()].map((der) => der.toString("hex").slice(-16)).join()}"`;
      response.setHeader("etag", etag);
      if (request.headers["if-none-match"] === etag) return void response.writeHead(304).end();
      response.setHeader("content-type", "application/json");
      response.end(body);
    },
  );
  const { port, stop } = await listen(server);
  return { url: `https://127.0.0.1:${port}`, published, requests, [Symbol.asyncDispose]: stop };
}

function bundleOf(published: Published): Bundle {
  const pem = (der: Buffer): string => pemEncode("CERTIFICATE", der);
  return {
    version: published.version,
    roots: published.roots.map(pem),
    crossCertificates: published.crossCertificates.map(pem),
    issuers: published.issuers.map((der) => ({ id: authorityId(der), certificate: pem(der) })),
    crls: [...published.crls].map(([issuer, der]) => {
      const { number, thisUpdate, nextUpdate } = readCrl(der);
      const at = (time: number): string => new Date(time).toISOString();
      return {
        issuer,
        url: `http://ca.test/crl/${issuer}.crl`,
        number,
        thisUpdate: at(thisUpdate),
        nextUpdate: at(nextUpdate),
      };
    }),
  };
}
