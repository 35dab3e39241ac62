import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readConfig } from "../../services/launch/mod.ts";
import {
  type ServiceKind,
  type ServiceNeeds,
  servicePermissions,
} from "../../services/cli/stack/mod.ts";
import { rewardServerSchema } from "../../services/reward/mod.ts";
import { HELM, helm, KUBECONFORM, type Manifest, manifestsOf, type Pod, run } from "./_chart.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const SCHEMAS = fileURLToPath(new URL("schemas", import.meta.url));

/** As little as there can be. */
const LEAST = { models: { claim: "models" } };
/** Everything that the chart can make. */
const ALL = {
  models: { claim: "models" },
  runs: { accessMode: "ReadWriteMany", storageClass: "nfs" },
  rewards: {
    clip: {
      records: [{ kind: "clip", weights: "rewards/clip" }],
      ...{ replicas: 3, gpus: 1, provider: "cuda", threads: 2, autoscaling: { max: 8 } },
      ...{ settings: { warmUp: [{ height: 512, width: 512 }] }, tolerations: [{ key: "gpu" }] },
    },
    symmetry: { records: [{ kind: "symmetry" }] },
  },
  trainer: { replicas: 2, gpus: 1, threads: 4, tokenSecret: "trainer-token" },
  gateway: {
    replicas: 2,
    tokenSecret: "gateway-token",
    ingress: { enabled: true, host: "drtune.example.org", tlsSecret: "web", className: "nginx" },
  },
  cluster: {
    enabled: true,
    tokenSecret: "nats-token",
    workers: { gpus: 1, threads: 4, autoscaling: { max: 64 } },
  },
  tls: { secret: "tls" },
  keda: { enabled: true },
  networkPolicies: { grpcFrom: [{ namespaceSelector: { matchLabels: { team: "a" } } }] },
  otlpEndpoint: "http://collector.monitoring.svc:4318",
};
/** A cluster over NATS that is there already. */
const ELSEWHERE = {
  ...LEAST,
  cluster: { enabled: true, servers: ["tls://nats.example.org:4222"] },
};

async function rendered(values: Readonly<Record<string, unknown>>): Promise<readonly Manifest[]> {
  const { code, stdout, stderr } = await helm("template", values);
  assert.equal(code, 0, stderr);
  return manifestsOf(stdout);
}

/** The pods of a rendered chart, by the name of what makes them. */
function podsOf(manifests: readonly Manifest[]): ReadonlyMap<string, Pod> {
  return new Map(
    manifests.flatMap(({ metadata: { name }, spec }) =>
      spec?.template === undefined ? [] : [[name, spec.template] as const]
    ),
  );
}

/** Every selector of labels in a manifest. */
function selectorsIn(value: unknown): readonly Readonly<Record<string, unknown>>[] {
  if (typeof value !== "object" || value === null) return [];
  const own = "matchLabels" in value && typeof value.matchLabels === "object" && value.matchLabels
    ? [{ ...value.matchLabels }]
    : [];
  return [...own, ...Object.values(value).flatMap(selectorsIn)];
}

Deno.test({
  name: "Helm finds no fault with the chart, and Kubernetes 1.27 and 1.37 know every field",
  ignore: HELM === undefined || KUBECONFORM === undefined,
  fn: async () => {
    const folder = await Deno.makeTempDir();
    try {
      for (const [i, values] of [LEAST, ALL, ELSEWHERE].entries()) {
        const lint = await helm("lint", values);
        assert.equal(lint.code, 0, lint.stdout + lint.stderr);
        for (const version of ["1.27.0", "1.37.0"]) {
          const { code, stdout, stderr } = await helm("template", values, version);
          assert.equal(code, 0, stderr);
          const file = join(folder, `${i}.yaml`);
          await Deno.writeTextFile(file, stdout);
          const checked = await run(KUBECONFORM ?? "", [
            ...["-strict", "-skip", "ScaledObject", "-kubernetes-version", version],
            "-schema-location",
            `${SCHEMAS}/{{.NormalizedKubernetesVersion}}/{{.ResourceKind}}{{.KindSuffix}}.json`,
            file,
          ]);
          assert.equal(checked.code, 0, checked.stdout + checked.stderr);
        }
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});

Deno.test({
  name: "No pod is root, writes its image, has rights or a token of Kubernetes'",
  ignore: HELM === undefined,
  fn: async () => {
    const pods = podsOf(await rendered(ALL));
    assert.deepEqual([...pods.keys()].toSorted(), [
      ...["t-clip", "t-gateway", "t-nats", "t-symmetry", "t-trainer", "t-worker"],
    ]);
    for (const [name, { spec }] of pods) {
      const [{ securityContext, volumeMounts }] = spec.containers;
      assert.equal(spec.automountServiceAccountToken, false, name);
      assert.equal(spec.securityContext["runAsNonRoot"], true, name);
      assert.deepEqual(spec.securityContext["seccompProfile"], { type: "RuntimeDefault" }, name);
      assert.deepEqual(securityContext, {
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ["ALL"] },
      }, name);
      // Everything mounted is there, and every file that a word of the command names is mounted.
      const volumes = spec.volumes.map(({ name }) => name);
      const claims = name === "t-nats" ? ["data"] : [];
      for (const { name: volume } of volumeMounts) {
        assert.ok([...volumes, ...claims].includes(volume), `${name} mounts ${volume}`);
      }
      const paths = volumeMounts.map(({ mountPath }) => mountPath);
      const words = spec.containers.flatMap(({ args }) =>
        args.flatMap((word) => word.match(/\/(secrets|models|runs|cache)[\w./-]*/g) ?? [])
      );
      for (const word of words) {
        assert.ok(paths.some((path) => word.startsWith(path)), `${name} has no ${word}`);
      }
      // What is converted is kept in the folder that a service runs in.
      const [{ workingDir, volumeMounts: mounts }] = spec.containers;
      if (/-(trainer|worker)$/.test(name)) {
        const mount = mounts.find(({ mountPath }) => mountPath === workingDir);
        assert.ok(mount !== undefined && mount.readOnly !== true, `${name} cannot keep a cache`);
      }
    }
  },
});

Deno.test({
  name: "Services start with the permissions of a stack's, and none with all",
  ignore: HELM === undefined,
  fn: async () => {
    const of = (
      kind: ServiceKind,
      read: readonly string[],
      { net = "any", write = [], gpu = false }: Partial<
        Pick<ServiceNeeds, "net" | "write" | "gpu">
      > = {},
    ) => {
      const needs = { kind, net, read, write, gpu };
      const flags = servicePermissions({ ...needs, root: "/app", deno: "/usr/local/bin/deno" });
      return ["deno", "run", "--no-prompt", "--cached-only", ...flags];
    };
    const net = ["0.0.0.0:50051", "0.0.0.0:9464"];
    const reward = (...secrets: string[]) =>
      of("reward", ["/models", "/cache", ...secrets], { net, write: ["/cache"] });
    const [runs, work, cache] = ["/runs", "/cache", "/cache/.cache"];
    const told = async (values: Readonly<Record<string, unknown>>) =>
      Object.fromEntries(
        [...podsOf(await rendered(values))].filter(([name]) => name !== "t-nats")
          .map(([name, { spec }]) => [name, spec.containers[0].command]),
      );
    assert.deepEqual(await told(LEAST), {
      "t-symmetry": reward(),
      "t-trainer": of("trainer", ["/models", runs, work], { write: [runs, cache] }),
      "t-gateway": of("gateway", [runs]),
    });
    const tls = "/secrets/tls";
    const everything = {
      ...ALL,
      trainer: { ...ALL.trainer, provider: "cuda" },
      cluster: { ...ALL.cluster, workers: { ...ALL.cluster.workers, provider: "cuda" } },
    };
    assert.deepEqual(await told(everything), {
      "t-clip": reward(tls),
      "t-symmetry": reward(tls),
      "t-trainer": of(
        "trainer",
        ["/models", runs, work, tls, "/secrets/trainer", "/secrets/nats"],
        { write: [runs, cache], gpu: true },
      ),
      "t-worker": of("worker", ["/models", work, tls, "/secrets/nats"], {
        write: [cache],
        gpu: true,
      }),
      "t-gateway": of("gateway", [runs, tls, "/secrets/trainer", "/secrets/gateway"]),
    });
  },
});

Deno.test({
  name: "Every selector finds a pod, and every service a port",
  ignore: HELM === undefined,
  fn: async () => {
    for (const values of [LEAST, ALL]) {
      const manifests = await rendered(values);
      const pods = [...podsOf(manifests).values()];
      const found = (selector: Readonly<Record<string, unknown>>) =>
        pods.filter(({ metadata: { labels } }) =>
          Object.entries(selector).every(([key, value]) => labels[key] === value)
        );
      const own = manifests.filter(({ kind }) => kind !== "Service").flatMap(selectorsIn)
        // The values' own.
        .filter((selector) => !("team" in selector));
      for (const selector of own) {
        // A policy may speak of components that this release does not have.
        const component = String(selector["app.kubernetes.io/component"]);
        const isAbsent = values === LEAST && ["worker", "nats"].includes(component);
        assert.equal(found(selector).length, isAbsent ? 0 : 1, JSON.stringify(selector));
      }
      for (const { kind, metadata: { name }, spec = {} } of manifests) {
        if (kind !== "Service") continue;
        const { selector, ports } = spec;
        assert.ok(typeof selector === "object" && selector !== null && Array.isArray(ports));
        const [pod] = found({ ...selector });
        const names = pod?.spec.containers[0].ports.map((port) => port.name) ?? [];
        for (const { targetPort } of ports) assert.ok(names.includes(targetPort), name);
      }
    }
  },
});

Deno.test({
  name: "The programs understand what the chart tells them",
  ignore: HELM === undefined,
  fn: async () => {
    for (const values of [ALL, ELSEWHERE]) {
      for (const [name, { spec }] of podsOf(await rendered(values))) {
        const [entry = "", ...words] = spec.containers[0].args;
        if (name === "t-nats") continue;
        const [, path = "", program] = /^\/app\/(services\/(\w+)\/main\.ts)$/.exec(entry) ?? [];
        // With --help options are read, and nothing is started.
        const { code, stderr } = await run(Deno.execPath(), [
          ...["run", "-A", "--quiet", "--no-check", `${ROOT}${path}`, ...words, "--help"],
        ]);
        assert.equal(code, 0, `${name}: ${stderr}`);
        if (program !== "reward") continue;
        const settings: unknown = JSON.parse(words[words.indexOf("--settings") + 1] ?? "");
        const records = words.flatMap((word, i) =>
          words[i - 1] === "--reward" ? [JSON.parse(word)] : []
        );
        assert.ok(typeof settings === "object");
        const config = await readConfig(undefined, rewardServerSchema, {
          ...settings,
          rewards: records,
        });
        assert.equal(config.reproducible, true);
      }
    }
  },
});

Deno.test({
  name: "Values that do not go together are told by name",
  ignore: HELM === undefined,
  fn: async () => {
    const faults: readonly (readonly [Readonly<Record<string, unknown>>, RegExp])[] = [
      [{}, /models\.claim is missing/],
      [{ ...LEAST, trainer: { replicaz: 2 } }, /'\/trainer'.*'replicaz' not allowed/s],
      [{ ...LEAST, trainer: { replicas: 2 } }, /trainer\.replicas is above 1, which needs cluster/],
      [
        { ...LEAST, trainer: { replicas: 2 }, cluster: { enabled: true } },
        /needs runs\.accessMode ReadWriteMany/,
      ],
      [{ ...LEAST, rewards: { nats: { records: [{ kind: "symmetry" }] } } }, /'nats'/],
      [{ ...LEAST, rewards: { clip: { replicas: 2 } } }, /missing property 'records'/],
      [{ ...LEAST, rewards: { clip: { records: [{}] } } }, /missing property 'kind'/],
      [{ ...LEAST, cluster: { servers: ["nats.example.org"] } }, /does not match pattern/],
      [
        {
          ...{ ...ELSEWHERE, keda: { enabled: true } },
          cluster: { ...ELSEWHERE.cluster, workers: { autoscaling: { max: 9 } } },
        },
        /reads the state of the chart's own NATS/,
      ],
    ];
    for (const [values, message] of faults) {
      const { code, stderr } = await helm("template", values);
      assert.equal(code, 1, JSON.stringify(values));
      assert.match(stderr, message);
    }
  },
});
