import { isIP } from "node:net";
import { join } from "node:path";
import { parseEndpoint, secured } from "../../rpc/mod.ts";
import type { Stack } from "./read_stack.ts";
import { type ServiceKind, servicePermissions } from "./service_permissions.ts";
import { eachReplica, workerNames } from "./stack_schema.ts";

/** How one service of a stack is started, wherever it runs. */
export interface ServiceDefinition {
  readonly name: string;
  readonly kind: ServiceKind;
  /** Address it listens on. */
  readonly host: string;
  readonly port: number;
  /** Containers that are made of it. */
  readonly replicas: number;
  /** Its entry module, relative to the project's root. */
  readonly entry: string;
  readonly args: readonly string[];
  /** Deno's permission flags for it. */
  readonly permissions: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Service whose health is asked for by grpc.health.v1; undefined for HTTP. Workers listen to nothing and are not asked. */
  readonly health: string | undefined;
  /** Whether it serves over TLS. */
  readonly secure: boolean;
  /** Files of the description that it reads, or that the checks of its health do. */
  readonly files: readonly string[];
}

/** What differs between a stack of local processes and one of containers. */
export interface Place {
  /** The project's folder. */
  readonly root: string;
  /** Deno's program. */
  readonly deno: string;
  readonly models: string;
  /** What links in the folder of models lead to: whoever reads weights resolves them. */
  readonly linkedModels: readonly string[];
  readonly runs: string;
  /** Folder in which trainers and workers run; its `.cache` keeps what they converted and encoded. */
  readonly work: string;
  /** Folder in which converted weights are kept. */
  readonly cache: string;
  /** Address a service listens on. */
  readonly listen: (host: string) => string;
  /** "host:port" at which others reach a service. */
  readonly address: (
    service: { readonly name: string; readonly host: string; readonly port: number },
  ) => string;
  /** Whether replicas have names and ports of their own, or one name that leads to all. */
  readonly replicas: "apart" | "together";
  /** Path at which a service finds a file of the description. */
  readonly file: (path: string) => string;
}

/** The services of a stack, the same ones in every place; the order means nothing. */
export function serviceDefinitions(stack: Stack, place: Place): readonly ServiceDefinition[] {
  const { rewards, trainer, gateway, cluster, clientTls, observability } = stack;
  const addressOf = (
    service: Parameters<Place["address"]>[0] & { readonly tls?: unknown },
  ) => service.tls === undefined ? place.address(service) : secured(place.address(service));
  const replicasOf = <T>(reward: Stack["rewards"][number], make: (one: typeof reward) => T) =>
    place.replicas === "apart" ? eachReplica(reward, make) : [make(reward)];
  const addresses = rewards.map((reward) => {
    const all = replicasOf(reward, addressOf);
    const isName = all.length < reward.replicas;
    return `${reward.name}=${isName ? nameOf(all.join()) : all.join()}`;
  }).join(",");
  const trainerAddress = addressOf({ ...trainer, name: "trainer" });
  const listen = ({ host, port }: { readonly host: string; readonly port: number }) => [
    "--host",
    place.listen(host),
    "--port",
    String(port),
  ];
  const file = (option: string, path: string | undefined) =>
    path === undefined ? [] : [option, place.file(path)];
  const { ca, cert, key } = clientTls;
  const tls = (prefix: string) => [
    ...file(`--${prefix}ca`, ca),
    ...file(`--${prefix}cert`, cert),
    ...file(`--${prefix}key`, key),
  ];
  const files = (...paths: readonly (string | undefined)[]) =>
    paths.filter((path) => path !== undefined);
  const nats = cluster === undefined ? [] : [
    "--nats",
    cluster.servers.join(","),
    ...file("--nats-token-file", cluster.tokenFile),
    ...file("--nats-ca", cluster.tls?.ca),
    ...file("--nats-cert", cluster.tls?.cert),
    ...file("--nats-key", cluster.tls?.key),
  ];
  const natsFiles = files(cluster?.tokenFile, ...Object.values(cluster?.tls ?? {}));
  const { root, deno, models, linkedModels, runs, work, cache } = place;
  const listened = (
    service: { readonly host: string; readonly metricsPort?: number | undefined },
    ...ports: readonly number[]
  ) =>
    [...ports, ...service.metricsPort === undefined ? [] : [service.metricsPort]].map((port) =>
      hostPort(place.listen(service.host), port)
    );
  const env = (name: string, devices?: readonly string[]) => ({
    OTEL_SERVICE_NAME: `drtune-${name}`,
    ...(observability.otlpEndpoint !== undefined && {
      OTEL_DENO: "true",
      OTEL_DENO_CONSOLE: "ignore",
      OTEL_EXPORTER_OTLP_ENDPOINT: observability.otlpEndpoint,
    }),
    ...(devices && { CUDA_VISIBLE_DEVICES: devices.join(",") }),
  });
  const trainerFiles = files(
    trainer.tokenFile,
    ...Object.values(trainer.tls ?? {}),
    ...[ca, cert, key, ...natsFiles],
  );
  const workerFiles = files(ca, cert, key, ...natsFiles);
  const gatewayFiles = files(gateway.tokenFile, trainer.tokenFile, gateway.presets, ca, cert, key);
  const called = numeric([
    trainerAddress,
    ...rewards.flatMap((reward) => replicasOf(reward, addressOf)),
  ]);
  return [
    ...rewards.flatMap((described) =>
      replicasOf(described, (reward): ServiceDefinition => {
        const read = files(
          reward.admin?.tokenFile,
          ...(reward.tls ? [...Object.values(reward.tls), ca, cert, key] : []),
        );
        return ({
          name: reward.name,
          kind: "reward",
          host: place.listen(reward.host),
          port: reward.port,
          replicas: place.replicas === "apart" ? 1 : reward.replicas,
          entry: "services/reward/main.ts",
          args: [
            ...listen(reward),
            ...reward.records.flatMap((record) => ["--reward", JSON.stringify(record)]),
            "--settings",
            JSON.stringify(rewardSettings(reward, { place, logLevel: observability.logLevel })),
          ],
          permissions: servicePermissions({
            ...{ kind: "reward", root, deno, gpu: false, write: [cache] },
            net: [
              ...listened(reward, reward.port),
              ...reward.admin ? listened({ host: reward.admin.host }, reward.admin.port) : [],
            ],
            read: [models, cache, ...read.map(place.file)],
          }),
          env: env(reward.name, reward.devices),
          health: "drtune.reward.v1.RewardService",
          secure: reward.tls !== undefined,
          files: read,
        });
      })
    ),
    {
      name: "trainer",
      kind: "trainer",
      host: place.listen(trainer.host),
      port: trainer.port,
      replicas: 1,
      entry: "services/trainer/main.ts",
      args: [
        ...listen(trainer),
        "--models",
        place.models,
        "--runs",
        place.runs,
        "--rewards",
        addresses,
        ...tls("reward-"),
        "--provider",
        trainer.provider,
        ...(trainer.threads === undefined ? [] : ["--threads", String(trainer.threads)]),
        ...(trainer.metricsPort === undefined
          ? []
          : ["--metrics-port", String(trainer.metricsPort)]),
        ...file("--token-file", trainer.tokenFile),
        ...file("--tls-cert", trainer.tls?.cert),
        ...file("--tls-key", trainer.tls?.key),
        ...file("--client-ca", trainer.tls?.clientCa),
        ...nats,
        "--log-level",
        observability.logLevel,
      ],
      permissions: servicePermissions({
        // Whoever starts a run says where its rewards are.
        ...{ kind: "trainer", root, deno, gpu: trainer.provider === "cuda", net: "any" },
        read: [models, ...linkedModels, runs, work, ...trainerFiles.map(place.file)],
        write: [runs, join(work, ".cache")],
      }),
      env: env("trainer", trainer.devices),
      health: "drtune.trainer.v1.TrainerService",
      secure: trainer.tls !== undefined,
      files: trainerFiles,
    },
    ...(cluster?.workers ?? []).map(({ provider, threads, devices }, i): ServiceDefinition => {
      const name = workerNames(cluster?.workers ?? [])[i] ?? "";
      return {
        ...{ name, kind: "worker", host: "127.0.0.1", port: 0, replicas: 1, secure: false },
        entry: "services/worker/main.ts",
        args: [
          ...nats,
          "--models",
          place.models,
          ...tls("reward-"),
          "--provider",
          provider,
          ...(threads === undefined ? [] : ["--threads", String(threads)]),
          "--log-level",
          observability.logLevel,
        ],
        permissions: servicePermissions({
          ...{ kind: "worker", root, deno, gpu: provider === "cuda", net: "any" },
          read: [models, ...linkedModels, work, ...workerFiles.map(place.file)],
          write: [join(work, ".cache")],
        }),
        env: env(name, devices),
        health: undefined,
        files: workerFiles,
      };
    }),
    {
      name: "gateway",
      kind: "gateway",
      host: place.listen(gateway.host),
      port: gateway.port,
      replicas: 1,
      entry: "services/gateway/main.ts",
      args: [
        ...listen(gateway),
        "--trainer",
        trainerAddress,
        "--rewards",
        addresses,
        ...tls(""),
        "--runs",
        place.runs,
        ...file("--presets", gateway.presets),
        ...file("--token-file", gateway.tokenFile),
        ...file("--trainer-token", trainer.tokenFile),
        "--log-level",
        observability.logLevel,
      ],
      permissions: servicePermissions({
        ...{ kind: "gateway", root, deno, gpu: false, write: [] },
        net: called === undefined ? "any" : [...listened(gateway, gateway.port), ...called],
        read: [runs, ...gatewayFiles.map(place.file)],
      }),
      env: env("gateway"),
      health: undefined,
      secure: false,
      files: gatewayFiles,
    },
  ];
}

/** Addresses as "host:port"; undefined where one has a name, which leads to addresses that nobody knows yet. */
function numeric(addresses: readonly string[]): readonly string[] | undefined {
  const found = addresses.map((address) => parseEndpoint(address)?.authority ?? "");
  const isNumeric = (authority: string) =>
    isIP(authority.replace(/:\d+$/, "").replace(/^\[(.*)\]$/, "$1")) !== 0;
  return found.every(isNumeric) ? found : undefined;
}

/** The same address as a name that has many. */
function nameOf(address: string): string {
  const plain = `dns:///${address.replace(/^grpcs:\/\//, "")}`;
  return address.startsWith("grpcs://") ? secured(plain) : plain;
}

/** What the reward server reads besides records and address. */
function rewardSettings(
  {
    records,
    threads,
    provider,
    limits,
    batching,
    warmUp,
    tls,
    admin,
    metricsPort,
    replicas,
    reproducible = replicas > 1,
  }: Stack["rewards"][number],
  { place, logLevel }: { readonly place: Place; readonly logLevel: string },
): Record<string, unknown> {
  const [first] = records;
  return {
    provider,
    ...(threads !== undefined && { threads }),
    ...(records.length > 1 && { default: first?.["name"] ?? first?.kind }),
    cacheDir: place.cache,
    ...(limits && { limits }),
    ...(batching && { batching }),
    ...(warmUp && { warmUp }),
    ...(reproducible && { reproducible }),
    ...(metricsPort !== undefined && { metricsPort }),
    ...(tls && {
      tls: {
        cert: place.file(tls.cert),
        key: place.file(tls.key),
        ...(tls.clientCa !== undefined && { clientCa: place.file(tls.clientCa) }),
      },
    }),
    ...(admin && {
      admin: {
        host: place.listen(admin.host),
        port: admin.port,
        tokenFile: place.file(admin.tokenFile),
      },
    }),
    logLevel,
  };
}

/** "host:port" as others on this machine write it: an address that stands for all is this machine's own. */
export function localAddress(
  { host, port }: { readonly host: string; readonly port: number },
): string {
  if (host === "0.0.0.0") return `127.0.0.1:${port}`;
  return hostPort(host === "::" ? "::1" : host, port);
}

function hostPort(host: string, port: number): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}
