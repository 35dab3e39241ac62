import { isIP } from "node:net";
import { relative } from "node:path";
import { Document } from "yaml";
import { InputError } from "../../../base/mod.ts";
import { ROOT, type Stack } from "./read_stack.ts";
import { workerNames } from "./stack_schema.ts";
import { type Place, type ServiceDefinition, serviceDefinitions } from "./service_definition.ts";

/** Which compose file: the stack, or what is laid over it where the computing services have GPUs. */
export const COMPOSE_VARIANTS = ["stack", "gpu", "cdi"] as const;
export type ComposeVariant = (typeof COMPOSE_VARIANTS)[number];

type Fields = Readonly<Record<string, unknown>>;

const TITLES: Readonly<Record<ComposeVariant, string>> = {
  stack: "The services of %s as containers; see docs/compose.md.",
  gpu: "Laid over compose.yaml: the services of %s on GPUs, by the engine's NVIDIA driver.",
  cdi: "Laid over compose.yaml: the services of %s on GPUs, by CDI.",
};

/**
 * A stack as a compose file.
 *
 * @param folder the file's: relative paths are in it
 */
export function composeYaml(
  stack: Stack,
  { folder, variant = "stack" }: { readonly folder: string; readonly variant?: ComposeVariant },
): string {
  const file = variant === "stack"
    ? composeFile(stack, folder)
    : overGpus(stack, { variant, folder });
  const from = relative(folder, stack.file);
  const document = new Document(file, { aliasDuplicateObjects: false });
  document.commentBefore = ` ${TITLES[variant].replace("%s", from)}\n` +
    ` Written by "drtune compose": change ${from}, not this.`;
  return document.toString({ lineWidth: 0 });
}

/** What a service's container has beside what its definition says. */
interface Container {
  readonly definition: ServiceDefinition;
  /** Address on the host that its port is published at. */
  readonly published: string;
  readonly memory: string | undefined;
  readonly devices: readonly string[] | undefined;
  /** Names of the secrets it reads. */
  readonly secrets: readonly string[];
}

function containers(stack: Stack): readonly Container[] {
  const { rewards, trainer, gateway, cluster } = stack;
  const names = secretNames(stack);
  const workers = new Map(
    workerNames(cluster?.workers ?? []).map((name, i) => [name, cluster?.workers[i]] as const),
  );
  return serviceDefinitions(stack, containerPlace(stack)).map((definition): Container => {
    const { host, memory, devices } = definition.kind === "gateway"
      ? { ...gateway, memory: undefined, devices: undefined }
      : rewards.find(({ name }) => name === definition.name) ??
        { ...trainer, ...workers.get(definition.name) };
    const secrets = definition.files.flatMap((path) => names.get(path) ?? []);
    return { definition, published: host, memory, devices, secrets: [...new Set(secrets)] };
  });
}

/** Every service is a machine of its own, with folders, token and TLS files at fixed places. */
function containerPlace(stack: Stack): Place {
  const secrets = secretNames(stack);
  return {
    root: "/app",
    deno: "/usr/local/bin/deno",
    models: "/models",
    linkedModels: [],
    runs: "/runs",
    // Models are only read, and a volume can be mounted in them only where the folder for it is there already.
    work: "/cache",
    cache: "/cache",
    listen: () => "0.0.0.0",
    address: ({ name, port }) => `${name}:${port}`,
    replicas: "together",
    file: (path) => {
      const secret = secrets.get(path);
      return secret === undefined ? "/presets" : `/run/secrets/${secret}`;
    },
  };
}

/** Names of the token and TLS files. */
function secretNames(
  { rewards, trainer, gateway, cluster, clientTls }: Stack,
): ReadonlyMap<string, string> {
  const ofServer = (name: string, tls: Stack["trainer"]["tls"]) =>
    [
      [`${name}-cert`, tls?.cert],
      [`${name}-key`, tls?.key],
      [`${name}-client-ca`, tls?.clientCa],
    ] as const;
  const files = [
    ["trainer-token", trainer.tokenFile],
    ["gateway-token", gateway.tokenFile],
    ...rewards.map(({ name, admin }) => [`${name}-admin-token`, admin?.tokenFile] as const),
    ["nats-token", cluster?.tokenFile],
    ["nats-ca", cluster?.tls?.ca],
    ["nats-cert", cluster?.tls?.cert],
    ["nats-key", cluster?.tls?.key],
    ["ca", clientTls.ca],
    ["client-cert", clientTls.cert],
    ["client-key", clientTls.key],
    ...ofServer("trainer", trainer.tls),
    ...rewards.flatMap(({ name, tls }) => ofServer(name, tls)),
  ] as const;
  const names = new Map<string, string>();
  for (const [name, path] of files) if (path && !names.has(path)) names.set(path, name);
  return names;
}

/** An address of the host as a port is published at: containers know addresses, no names, and IPv6 in brackets. */
function publishedAt(host: string): string {
  const address = host === "localhost" ? "127.0.0.1" : host;
  const version = isIP(address);
  if (version === 0) {
    throw new InputError(`host is "${host}", expected an IP address: a port is published at one`);
  }
  return version === 6 ? `[${address}]` : address;
}

/** How the image is built: which stage of the Containerfile, where it is not the last one. */
function build(folder: string, target?: string): Fields {
  const context = hostPath(folder, ROOT);
  return { context, dockerfile: "deploy/Containerfile", ...(target !== undefined && { target }) };
}

/** A path as the file in `folder` writes it. */
function hostPath(folder: string, path: string): string {
  const there = relative(folder, path);
  return there.startsWith("..") ? there : `./${there}`;
}

function composeFile(stack: Stack, folder: string): Fields {
  const host = (path: string) => hostPath(folder, path);
  const { presets } = stack.gateway;
  const names = secretNames(stack);
  const services = containers(stack).map(({ definition, published, memory, secrets }) => {
    const { kind, port, replicas } = definition;
    const volumes = {
      reward: [`${host(stack.models)}:/models:ro`, "cache:/cache"],
      trainer: [`${host(stack.models)}:/models:ro`, "runs:/runs", "cache:/cache"],
      worker: [`${host(stack.models)}:/models:ro`, "cache:/cache"],
      gateway: ["runs:/runs:ro", ...(presets ? [`${host(presets)}:/presets:ro`] : [])],
    }[kind];
    return [definition.name, {
      image: "${DRTUNE_IMAGE:-localhost/drtune}",
      build: build(folder),
      entrypoint: entrypoint(definition),
      command: command(definition),
      user: "${DRTUNE_USER:-10001:10001}",
      environment: environment(definition),
      ...((kind === "trainer" || kind === "worker") && { working_dir: "/cache" }),
      // Of several only one could have the host's port.
      ...(replicas > 1
        ? { deploy: { replicas } }
        : kind !== "worker" && { ports: [`${publishedAt(published)}:${port}:${port}`] }),
      volumes,
      ...(secrets.length > 0 && { secrets }),
      ...(memory !== undefined && { mem_limit: memory }),
      ...(kind !== "worker" && {
        healthcheck: {
          test: ["CMD", "drtune", "health", ...healthWords(definition, stack)],
          interval: "30s",
          timeout: "10s",
          start_period: "120s",
          retries: 3,
        },
      }),
      restart: "unless-stopped",
      // The trainer finishes its iteration and writes a checkpoint, a worker finishes its job.
      ...((kind === "trainer" || kind === "worker") && { stop_grace_period: "70s" }),
      read_only: true,
      tmpfs: ["/tmp"],
      cap_drop: ["ALL"],
      security_opt: ["no-new-privileges:true"],
    }] as const;
  });
  return {
    name: `drtune-${stack.name}`,
    services: { ...Object.fromEntries(services), ...queue(stack), ...viewers(host) },
    volumes: {
      ...{ runs: {}, cache: {}, metrics: {} },
      ...(Object.keys(queue(stack)).length > 0 && { nats: {} }),
    },
    ...(names.size > 0 && {
      secrets: Object.fromEntries([...names].map(([path, name]) => [name, { file: host(path) }])),
    }),
  };
}

/**
 * NATS, where it is asked for by the profile and the description names it as a container: nats://nats:PORT, without TLS.
 */
function queue({ cluster }: Stack): Fields {
  const port = cluster?.servers.map((server) => /^nats:\/\/nats:(\d+)$/.exec(server)?.[1]).find(
    Boolean,
  );
  if (port === undefined) return {};
  const isSecret = cluster?.tokenFile !== undefined;
  // The token is a file, and NATS wants words; Compose would take one dollar for a variable of its own.
  const auth = isSecret ? ' --auth "$$(head -n 1 /run/secrets/nats-token)"' : "";
  return {
    nats: {
      image: "nats:2.15.3-alpine",
      profiles: ["cluster"],
      entrypoint: ["sh", "-c"],
      command: [`exec nats-server --jetstream --store_dir /data --port ${port}${auth}`],
      volumes: ["nats:/data"],
      ...(isSecret && { secrets: ["nats-token"] }),
      restart: "unless-stopped",
      cap_drop: ["ALL"],
      // The token is another user's, and the volume root's.
      cap_add: ["DAC_OVERRIDE"],
      security_opt: ["no-new-privileges:true"],
    },
  };
}

/** Collector and viewers of metrics and traces, where they are asked for by the profile. */
function viewers(host: (path: string) => string): Fields {
  const profiles = ["observability"];
  const config = (name: string) =>
    `${host(`${ROOT}deploy/observability/${name}`)}:/etc/drtune/${name}:ro`;
  return {
    collector: {
      image: "otel/opentelemetry-collector-contrib:0.130.0",
      profiles,
      command: ["--config=/etc/drtune/collector.yaml"],
      volumes: [config("collector.yaml")],
      restart: "unless-stopped",
    },
    metrics: {
      image: "prom/prometheus:v3.5.0",
      profiles,
      command: ["--config.file=/etc/drtune/prometheus.yaml", "--storage.tsdb.path=/prometheus"],
      ports: ["127.0.0.1:9090:9090"],
      volumes: [config("prometheus.yaml"), "metrics:/prometheus"],
      restart: "unless-stopped",
    },
    traces: {
      image: "jaegertracing/jaeger:2.8.0",
      profiles,
      ports: ["127.0.0.1:16686:16686"],
      restart: "unless-stopped",
    },
  };
}

/** The computing services on CUDA, each with the devices it is described with, or all. */
function overGpus(
  stack: Stack,
  { variant, folder }: { readonly variant: "gpu" | "cdi"; readonly folder: string },
): Fields {
  const cuda: Stack = {
    ...stack,
    rewards: stack.rewards.map((reward) => ({ ...reward, provider: "cuda" })),
    trainer: { ...stack.trainer, provider: "cuda" },
    ...(stack.cluster && {
      cluster: {
        ...stack.cluster,
        workers: stack.cluster.workers.map((worker) => ({ ...worker, provider: "cuda" as const })),
      },
    }),
  };
  const computing = containers(cuda).filter(({ definition }) => definition.kind !== "gateway");
  return {
    services: Object.fromEntries(computing.map(({ definition, devices }) => {
      const access = variant === "cdi"
        ? { devices: (devices ?? ["all"]).map((device) => `nvidia.com/gpu=${device}`) }
        : { deploy: { resources: { reservations: { devices: [nvidia(devices)] } } } };
      return [definition.name, {
        image: "${DRTUNE_NVIDIA_IMAGE:-localhost/drtune-nvidia}",
        build: build(folder, "nvidia"),
        entrypoint: entrypoint(definition),
        command: command(definition),
        ...access,
      }];
    })),
  };
}

/** Deno with what a service may do. */
function entrypoint({ permissions }: ServiceDefinition): readonly string[] {
  return ["deno", "run", "--no-prompt", "--cached-only", ...permissions];
}

function nvidia(devices: readonly string[] | undefined): Fields {
  return {
    driver: "nvidia",
    ...(devices ? { device_ids: devices } : { count: "all" }),
    capabilities: ["gpu"],
  };
}

/** Compose would take a dollar for a variable. */
function command({ entry, args }: ServiceDefinition): readonly string[] {
  return [`/app/${entry}`, ...args].map((word) => word.replaceAll("$", "$$$$"));
}

function environment({ env }: ServiceDefinition): Fields {
  // Which devices there are is for the engine to say.
  const { CUDA_VISIBLE_DEVICES: _, ...rest } = env;
  // The collector beside it, when it is there; a described one always.
  return {
    OTEL_DENO: "${DRTUNE_TRACES:-false}",
    OTEL_DENO_CONSOLE: "ignore",
    OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318",
    ...rest,
  };
}

function healthWords(
  { health, port, secure, args }: ServiceDefinition,
  stack: Stack,
): readonly string[] {
  if (health === undefined) {
    const token = args.indexOf("--token-file");
    return [`http://127.0.0.1:${port}`, ...(token < 0 ? [] : args.slice(token, token + 2))];
  }
  const words = ["--service", health];
  if (!secure) return [`127.0.0.1:${port}`, ...words];
  const { file } = containerPlace(stack);
  const tls = Object.entries(stack.clientTls).flatMap(([name, path]) =>
    path === undefined ? [] : [`--${name}`, file(path)]
  );
  // A name rather than an address: certificates for services are made for names.
  return [`grpcs://localhost:${port}`, ...words, ...tls];
}
