/** What the Kubernetes manifests promise, held against the agent's own reader of agent.yml. */
import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";
import { parse, parseAllDocuments } from "yaml";
import { type AgentConfig, parseConfig } from "../../../agent-client/config/config.ts";

const directory = join(import.meta.dirname, "../../../deploy/kubernetes");
const files = globSync("*.yaml", { cwd: directory }).toSorted();

interface Container {
  readonly name: string;
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly securityContext: {
    readonly allowPrivilegeEscalation: boolean;
    readonly readOnlyRootFilesystem: boolean;
    readonly capabilities: { readonly drop: readonly string[] };
  };
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string; readonly readOnly?: boolean }[];
  readonly readinessProbe?: object;
}

interface Pod {
  readonly shareProcessNamespace?: boolean;
  readonly securityContext: { readonly runAsNonRoot: boolean; readonly runAsUser: number; readonly fsGroup: number };
  readonly initContainers: readonly Container[];
  readonly containers: readonly Container[];
  readonly volumes: readonly {
    readonly name: string;
    readonly emptyDir?: { readonly medium?: string };
    readonly configMap?: { readonly name: string };
  }[];
}

interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly data?: Readonly<Record<string, string>>;
  readonly spec?: { readonly replicas: number; readonly template: { readonly spec: Pod } };
}

it("there are manifests, and each reads as YAML without a warning", () => {
  assert.deepEqual(files, ["envoy.yaml", "gateway.yaml"]);
  for (const file of files) {
    for (const document of parseAllDocuments(read(file), { merge: true }))
      assert.deepEqual([...document.errors, ...document.warnings], [], file);
  }
});

for (const file of files) {
  describe(file, () => {
    const manifests = parseAllDocuments(read(file)).map((document) => document.toJS() as Manifest);
    const texts = new Map(
      manifests.flatMap(({ kind, metadata, data = {} }) =>
        kind === "ConfigMap" ? Object.entries(data).map(([name, text]) => [`${metadata.name}/${name}`, text]) : [],
      ) as [string, string][],
    );
    const workload = manifests.find(({ kind }) => kind === "StatefulSet");
    const pod = workload?.spec?.template.spec;
    assert.ok(pod !== undefined);
    const configs = new Map<string, AgentConfig>(
      [...texts].filter(([, text]) => isAgentConfig(text)).map(([path, text]) => [path, parseConfig(text, path)]),
    );

    it("every agent.yml in it is one that the agent accepts", () => {
      assert.deepEqual(
        [...configs.keys()].map((path) => path.split("/")[1]),
        ["init.yml", "agent.yml"],
      );
    });

    it("the init container's agent.yml differs from the sidecar's only in what needs a running server", () => {
      const [first, second] = [...configs.values()];
      const [before, after] = [first?.certificates[0], second?.certificates[0]];
      assert.ok(first && second && before && after);
      assert.deepEqual([before.target, first.state, first.server], [after.target, second.state, second.server]);
      assert.deepEqual([before.probes.length, before.reload.kind], [0, "watch"]);
      assert.equal(after.probes.length, 1);
    });

    it("nothing is mounted by subPath, nor below the directory in which the agent switches", () => {
      assert.ok(!JSON.stringify(manifests).includes("subPath"));
      const [config] = [...configs.values()];
      const tls = dirname(config?.certificates[0]?.target.directory ?? "");
      for (const { name, volumeMounts } of [...pod.initContainers, ...pod.containers]) {
        const mount = volumeMounts.find((candidate) => candidate.name === "tls");
        assert.equal(mount?.mountPath, tls, name);
        assert.equal(
          mount.readOnly ?? false,
          name !== "enroll" && name !== "agent",
          `${name} writes only if it is the agent`,
        );
      }
    });

    it("keys stay in memory, and every volume that is mounted exists", () => {
      assert.equal(pod.volumes.find(({ name }) => name === "tls")?.emptyDir?.medium, "Memory");
      const known = new Set([...pod.volumes.map(({ name }) => name), "agent-state"]);
      for (const { volumeMounts } of [...pod.initContainers, ...pod.containers])
        for (const { name } of volumeMounts) assert.ok(known.has(name), name);
      const maps = manifests.filter(({ kind }) => kind === "ConfigMap").map(({ metadata }) => metadata.name);
      for (const { configMap } of pod.volumes) assert.ok(configMap === undefined || maps.includes(configMap.name));
    });

    it("nobody is root or has capabilities, and the files belong to the number that all containers run as", () => {
      const { runAsNonRoot, runAsUser, fsGroup } = pod.securityContext;
      assert.equal(runAsNonRoot, true);
      for (const { certificates } of configs.values()) {
        for (const { target } of certificates) assert.deepEqual([target.owner, target.group], [runAsUser, fsGroup]);
      }
      for (const { name, securityContext } of [...pod.initContainers, ...pod.containers]) {
        const { allowPrivilegeEscalation, readOnlyRootFilesystem, capabilities } = securityContext;
        assert.deepEqual(
          [allowPrivilegeEscalation, readOnlyRootFilesystem, capabilities.drop],
          [false, true, ["ALL"]],
          name,
        );
      }
    });

    it("who signals sees the server's processes and its pid file, and both containers are probed for readiness", () => {
      const reload = configs.get([...configs.keys()][1] ?? "")?.certificates[0]?.reload;
      assert.ok(reload);
      assert.equal(pod.shareProcessNamespace === true, reload.kind === "signal");
      if (reload.kind === "signal") {
        for (const { name, volumeMounts } of pod.containers)
          assert.ok(
            volumeMounts.some(({ mountPath }) => mountPath === dirname(reload.pidFile)),
            name,
          );
        assert.ok([...texts.values()].some((text) => text.includes(`pid ${reload.pidFile};`)));
      }
      for (const { name, readinessProbe } of pod.containers) assert.ok(readinessProbe !== undefined, name);
    });

    it("the containers start with the agent.yml they are given, and the server with the files the agent writes", () => {
      const [config] = [...configs.values()];
      const target = config?.certificates[0]?.target;
      assert.ok(config && target);
      const [init] = pod.initContainers;
      const agent = pod.containers.find(({ name }) => name === "agent");
      assert.match(init?.command?.join(" ") ?? "", /enroll --config \/etc\/newleaf\/init\.yml /);
      assert.ok(init?.command?.join(" ").endsWith(`test -s ${target.directory}/current/tls.crt`));
      assert.deepEqual(agent?.args, ["run", "--config", "/etc/newleaf/agent.yml"]);
      const used = [...texts.values()].flatMap((text) => text.match(/\/tls\/[a-z/]+current\/[a-z.]+/g) ?? []);
      assert.deepEqual(
        [...new Set(used)].toSorted(),
        target.files.map((name) => `${target.directory}/current/${name}`).toSorted(),
      );
    });
  });
}

function read(file: string): string {
  return readFileSync(join(directory, file), "utf8");
}

function isAgentConfig(text: string): boolean {
  try {
    return Object.hasOwn(parse(text) as object, "certificates");
  } catch {
    return false;
  }
}
