import { z } from "zod";
import { parseRewardConfig, RewardConfigError } from "../../../rewards/mod.ts";
import { PROVIDERS } from "../../../runtime/mod.ts";

const count = z.int().positive();
const path = (description: string) => z.string().min(1).meta({ description });
const name = z.string().regex(/^[a-z0-9][a-z0-9-]{0,40}$/);

const host = z.string().min(1).default("127.0.0.1").meta({
  description:
    "Address to listen on; 0.0.0.0 for all of this machine's. In containers it is not used.",
});
const port = (usual: number) =>
  z.int().min(0).max(65535).default(usual).meta({
    description: "Port to listen on; 0 takes a free one when the stack starts.",
  });
const metricsPort = z.int().min(1).max(65535).optional().meta({
  description: "Port that serves Prometheus' metrics under /metrics. Default: none.",
});
const tokenFile = path(
  "File whose first line callers must send as a bearer token; at least 16 characters.",
).optional();

const clientTls = z.strictObject({
  ca: path("PEM file of the authorities of certificates. Default: the system's.").optional(),
  cert: path("PEM file of a certificate to show where one is asked for; with key.").optional(),
  key: path("PEM file of its key.").optional(),
});
const serverTls = z.strictObject({
  cert: path("PEM file of its certificate. Services check that it names the address they use."),
  key: path("PEM file of its key."),
  clientCa: path("PEM file of the authority of the certificates that callers must show.")
    .optional(),
}).optional().meta({ description: "Serves over TLS. clientTls says how it is called." });

/** What a service that computes may use. */
const resources = {
  threads: count.optional().meta({ description: "Threads of one operator. Default: all cores." }),
  provider: z.enum(PROVIDERS).default("cpu").meta({
    description: "ONNX Runtime execution provider.",
  }),
  devices: z.array(z.string().min(1)).min(1).optional().meta({
    description: 'GPUs it sees, by index or UUID, e.g. ["0"]. Default: all.',
  }),
  memory: z.string().regex(/^\d+[kmg]$/).optional().meta({
    description: "Most memory its container may take, e.g. 4g. Local processes are not limited.",
  }),
};

const reward = z.strictObject({
  name: name.meta({ description: "Name of the service, by which runs and the gateway know it." }),
  host,
  port: z.int().min(0).max(65535).meta({
    description: "Port to listen on; 0 takes a free one when the stack starts.",
  }),
  metricsPort,
  replicas: z.int().min(1).max(100).default(1).meta({
    description:
      "Servers that serve the same, on this port and those behind it, or containers of one name.",
  }),
  reproducible: z.boolean().optional().meta({
    description:
      "Runs each image alone, so that its score has the same bits whatever it is asked with. Default: true where there are replicas.",
  }),
  tls: serverTls,
  records: z.array(z.looseObject({ kind: z.string().min(1) })).min(1).meta({
    description:
      "The rewards it serves: a kind and its options; paths are in the folder of models. The first one is the default.",
  }),
  ...resources,
  limits: z.record(z.string(), count).optional().meta({
    description:
      "What one request may hold: maxImages, maxPixels, maxSide, maxPromptLength, maxMessageBytes.",
  }),
  batching: z.record(z.string(), count).optional().meta({
    description: "What is run together and may wait: maxBatch, maxQueuedImages, maxQueuedBytes.",
  }),
  warmUp: z.array(z.record(z.string(), count)).optional().meta({
    description: "Images to be ready for when it has loaded: height, width, batch (1).",
  }),
  admin: z.strictObject({
    host,
    port: z.int().min(1).max(65535).meta({ description: "Port of the administration service." }),
    tokenFile: path("File whose first line administrators must send; at least 16 characters."),
  }).optional().meta({ description: "Serves loading and unloading of rewards." }),
});

const trainer = z.strictObject({
  host,
  port: port(50060),
  metricsPort,
  tokenFile,
  tls: serverTls,
  ...resources,
});

const gateway = z.strictObject({
  host,
  port: port(8080),
  tokenFile,
  presets: path("Folder of run configurations the live page offers. Default: the project's.")
    .optional(),
});

const cluster = z.strictObject({
  servers: z.array(z.string().regex(/^(nats|tls):\/\/[^\s/@]+:\d+$/)).min(1).meta({
    description: "nats://HOST:PORT of NATS servers with JetStream, tls://HOST:PORT for TLS.",
  }),
  tokenFile: path("File whose first line NATS asks its clients for; at least 16 characters.")
    .optional(),
  tls: clientTls.optional().meta({ description: "For servers at tls://." }),
  workers: z.array(z.strictObject(resources)).default([]).meta({
    description: "Workers of this machine, a process or container each. Others may join.",
  }),
});

/** The services of a stack. Relative paths are in the folder of the file. */
export const stackSchema = z.strictObject({
  $schema: z.string().optional().meta({ description: "For editors." }),
  name: name.default("drtune").meta({ description: "Name of the stack." }),
  models: path("Folder of all weights and prompt files; it is only read."),
  runs: path("Folder of runs.").default("runs"),
  state: path("Folder of logs and of what `drtune up` remembers.").default(".drtune"),
  rewards: z.array(reward).min(1).meta({
    description: "Reward services, one process or container each.",
  }),
  trainer: trainer.prefault({}).meta({ description: "The trainer service." }),
  gateway: gateway.prefault({}).meta({ description: "HTTP and the live page." }),
  cluster: cluster.optional().meta({
    description:
      "Workers compute what the trainer trains on, over NATS, which is started by itself. Default: the trainer computes.",
  }),
  clientTls: clientTls.prefault({}).meta({
    description:
      "What services of the stack, and `drtune` beside it, use when they call one that serves over TLS, or a reward at grpcs://.",
  }),
  observability: z.strictObject({
    logLevel: z.enum(["debug", "info", "warn", "error", "silent"]).default("info").meta({
      description: "Least severe level that is logged.",
    }),
    otlpEndpoint: z.url().optional().meta({
      description: "OpenTelemetry collector that traces are sent to, e.g. http://127.0.0.1:4318.",
    }),
  }).prefault({}).meta({ description: "Logs and traces." }),
}).superRefine(({ rewards, trainer, gateway, cluster, clientTls }, { addIssue }) => {
  const fault = (path: readonly (string | number)[], message: string) =>
    addIssue({ code: "custom", path: [...path], message });
  if ((clientTls.cert === undefined) !== (clientTls.key === undefined)) {
    fault(["clientTls"], "has one of cert and key, expected both or none");
  }
  const names = new Set(["trainer", "gateway", ...workerNames(cluster?.workers ?? [])]);
  rewards.forEach(({ name, records, replicas }, i) => {
    for (const one of new Set([name, ...eachReplica({ name, replicas }, ({ name }) => name)])) {
      if (names.has(one)) {
        const isOwn = rewards.slice(0, i).some((other) => other.name === one);
        const other = isOwn ? "another reward" : "another service";
        fault(["rewards", i, "name"], `is ${one}, which is the name of ${other}`);
      }
      names.add(one);
    }
    records.forEach((record, j) => {
      try {
        parseRewardConfig(record);
      } catch (error) {
        if (!(error instanceof RewardConfigError)) throw error;
        fault(["rewards", i, "records", j], `is refused: ${error.message}`);
      }
    });
  });
  const ports = new Map<number, string>();
  const listeners = stackListeners({ rewards, trainer, gateway });
  for (const { path, port } of listeners) {
    const other = ports.get(port);
    if (port !== 0 && other !== undefined) {
      fault(path, `is ${port}, which ${other} has as well, expected a port of its own`);
    } else ports.set(port, path.join("."));
  }
});

/** What differs between replicas: a name, and ports. */
interface Replicated {
  readonly name: string;
  readonly replicas: number;
  readonly port?: number;
  readonly metricsPort?: number | undefined;
  readonly admin?: { readonly port: number } | undefined;
}

/** Each replica as a service of its own on this machine: numbered, its ports as far behind as its number says. */
export function eachReplica<R extends Replicated, T>(
  reward: R,
  make: (replica: R) => T,
): readonly T[] {
  const { name, replicas, port, metricsPort, admin } = reward;
  if (replicas === 1) return [make(reward)];
  return Array.from({ length: replicas }, (_, i) =>
    make({
      ...reward,
      name: `${name}-${i + 1}`,
      // Where any port will do there is none yet.
      ...(port !== undefined && { port: port === 0 ? 0 : port + i }),
      ...(metricsPort !== undefined && { metricsPort: metricsPort + i }),
      ...(admin !== undefined && { admin: { ...admin, port: admin.port + i } }),
    }));
}

/** What a stack's workers are called. */
export function workerNames(workers: readonly unknown[]): readonly string[] {
  return workers.map((_, i) => `worker-${i + 1}`);
}

/** Every port of a stack: where the description has it, and where it is listened to. */
export function stackListeners(
  { rewards, trainer, gateway }: Pick<
    z.infer<typeof stackSchema>,
    "rewards" | "trainer" | "gateway"
  >,
): readonly {
  readonly path: readonly (string | number)[];
  readonly host: string;
  readonly port: number;
}[] {
  const metrics = (
    service: { readonly host: string; readonly metricsPort?: number | undefined },
    path: readonly (string | number)[],
  ) =>
    service.metricsPort === undefined
      ? []
      : [{ path: [...path, "metricsPort"], host: service.host, port: service.metricsPort }];
  return [
    ...rewards.flatMap((reward, i) =>
      eachReplica(reward, (replica) => [
        { path: ["rewards", i, "port"], host: replica.host, port: replica.port },
        ...metrics(replica, ["rewards", i]),
        ...(replica.admin ? [{ path: ["rewards", i, "admin", "port"], ...replica.admin }] : []),
      ]).flat()
    ),
    { path: ["trainer", "port"], host: trainer.host, port: trainer.port },
    ...metrics(trainer, ["trainer"]),
    { path: ["gateway", "port"], host: gateway.host, port: gateway.port },
  ];
}

/** A stack as described, defaults filled in. */
export type StackDescription = z.infer<typeof stackSchema>;

/** The schema for editors. */
export function stackJsonSchema(): object {
  return {
    title: "DRTune stack",
    ...z.toJSONSchema(stackSchema, { io: "input" }),
  };
}
