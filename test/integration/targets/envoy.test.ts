/** Envoy's file SDS: by a stand-in, and by the real Envoy where one is on the PATH (Debian ships none). */
import assert from "node:assert/strict";
import { watch, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { stringify } from "yaml";
import { findProgram } from "../../support/programs.ts";
import { startStandIn } from "../../support/stand-in.ts";
import { startTargetServer, versionOf } from "../../support/target-server.ts";
import { type Place, proveTarget, type TargetStory } from "../../support/target.ts";

/** The parent of the link `current`. */
const watchedBy = (place: Place): string => dirname(dirname(place.file("key.pem")));
const how = "file SDS, watched_directory";
const settings = (): Readonly<Record<string, unknown>> => ({ reload: "watch" });

test(
  "Envoy (stand-in) takes five new keys by one move in the watched directory, keeps the old leaf when the set is broken, and starts from the files on disk",
  { timeout: 120_000 },
  async () => {
    const row = await proveTarget({
      target: "Envoy (stand-in)",
      how,
      version: "as 1.40",
      traffic: "http",
      clientCertificates: true,
      readsCrl: true,
      onBadSet: "keeps-old",
      start: (place) =>
        startStandIn("envoy", place.dir, {
          port: place.port,
          takes: "watched-directory",
          certificate: place.file("fullchain.pem"),
          key: place.file("key.pem"),
          ca: place.file("ca.pem"),
          crl: place.file("crl.pem"),
          watched: watchedBy(place),
        }),
      settings,
      also: oneMoveForEachRenewal,
    });
    assert.equal(row.newConnections.failed, 0);
    assert.deepEqual([row.kept?.resets, row.webSockets?.cut], [0, 0]);
  },
);

test(
  "Envoy takes five new keys by file SDS without a reset connection, and starts from the files on disk",
  { skip: findProgram("envoy") === null && "no envoy on the PATH", timeout: 180_000 },
  async () => {
    const row = await proveTarget({
      target: "Envoy",
      how,
      version: versionOf(["envoy", "--version"], /\/(\d[\d.]*)\//),
      traffic: "http",
      clientCertificates: true,
      readsCrl: true,
      onBadSet: "keeps-old",
      start: (place) =>
        startTargetServer(place, {
          argv: ["envoy", "-c", writeConfiguration(place), "-l", "warn", "--disable-hot-restart"],
        }),
      settings,
      also: oneMoveForEachRenewal,
    });
    assert.equal(row.newConnections.failed, 0);
    assert.deepEqual([row.kept?.resets, row.webSockets?.cut], [0, 0]);
  },
);

/** More would make Envoy read again while the agent is still at work; none, and it never reads. */
async function oneMoveForEachRenewal({ place, renew }: TargetStory): Promise<void> {
  const moves: (string | null)[] = [];
  const watcher = watch(watchedBy(place), (event, name) => void (event === "rename" && moves.push(name)));
  try {
    await renew();
    await renew();
  } finally {
    watcher.close();
  }
  assert.equal(moves.filter((name) => name === "current").length, 2, String(moves));
}

/** The bootstrap and the two secrets of docs/gateways/envoy.md. @returns the path of the bootstrap */
function writeConfiguration(place: Place): string {
  const at = (name: string): string => join(place.dir, name);
  const watched = { watched_directory: { path: watchedBy(place) } };
  const secret = (name: string, content: Readonly<Record<string, unknown>>): string =>
    stringify({
      resources: [
        { "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret", name, ...content },
      ],
    });
  writeFileSync(
    at("sds-server.yaml"),
    secret("server", {
      tls_certificate: {
        certificate_chain: { filename: place.file("fullchain.pem") },
        private_key: { filename: place.file("key.pem") },
        ...watched,
      },
    }),
  );
  writeFileSync(
    at("sds-clients.yaml"),
    secret("clients", {
      validation_context: {
        trusted_ca: { filename: place.file("ca.pem") },
        crl: { filename: place.file("crl.pem") },
        ...watched,
      },
    }),
  );
  // SDS wants to know who asks, even when a file answers.
  const node = { id: "gateway", cluster: "gateway" };
  const resources = { listeners: [listener(place)], clusters: [app(place)] };
  writeFileSync(at("envoy.yaml"), stringify({ node, static_resources: resources }));
  return at("envoy.yaml");
}

function listener(place: Place) {
  const sds = (name: string) => ({
    name,
    sds_config: {
      resource_api_version: "V3",
      path_config_source: { path: join(place.dir, `sds-${name}.yaml`) },
    },
  });
  const tls = {
    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
    require_client_certificate: true,
    disable_stateless_session_resumption: true,
    disable_stateful_session_resumption: true,
    common_tls_context: {
      tls_certificate_sds_secret_configs: [sds("server")],
      validation_context_sds_secret_config: sds("clients"),
    },
  };
  const connections = {
    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    stat_prefix: "gateway",
    upgrade_configs: [{ upgrade_type: "websocket" }],
    route_config: {
      virtual_hosts: [{ name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: "app" } }] }],
    },
    http_filters: [
      {
        name: "router",
        typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
      },
    ],
  };
  return {
    name: "gateway",
    address: { socket_address: { address: "127.0.0.1", port_value: place.port } },
    filter_chains: [
      {
        transport_socket: { name: "tls", typed_config: tls },
        filters: [{ name: "http", typed_config: connections }],
      },
    ],
  };
}

function app(place: Place) {
  const address = { socket_address: { address: "127.0.0.1", port_value: place.backendPort } };
  return {
    name: "app",
    type: "STATIC",
    load_assignment: { cluster_name: "app", endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }] },
  };
}
