import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { TrainerService } from "../../../proto/mod.ts";
import { type ClientTlsFiles, readClientTls, readToken } from "../../launch/mod.ts";
import { type ClientTls, type GrpcClient, grpcClient } from "../../rpc/mod.ts";
import { checkAnswers, KEEPALIVE } from "../check_answers.ts";
import { UsageError } from "../command.ts";
import { choosePorts } from "../stack/choose_ports.ts";
import { localPlace } from "../stack/local_place.ts";
import type { Stack } from "../stack/read_stack.ts";
import { serviceDefinitions } from "../stack/service_definition.ts";
import { StateFolder } from "../stack/state_folder.ts";
import { SupervisedService } from "../stack/supervised_service.ts";
import { typed } from "../typed.ts";

/** How long the trainer may take to finish its iteration and write a checkpoint. */
const GRACE_MS = 60_000;

/** Services that a study or an evaluation works with. */
export interface StudyStack extends AsyncDisposable {
  readonly trainer: GrpcClient<typeof TrainerService>;
  /** "host:port" of reward servers by their names in the stack. */
  readonly rewards: ReadonlyMap<string, string>;
  readonly tls: ClientTls;
}

/** The services of the stack that `drtune up` keeps running. Throws `UsageError` where it does not. */
export async function runningStack(stack: Stack, names: readonly string[]): Promise<StudyStack> {
  const state = await new StateFolder(stack.state).running();
  const trainer = state?.services.find(({ kind }) => kind === "trainer");
  if (state === undefined || trainer === undefined) {
    throw new UsageError(`No stack is running: "${typed("up --detach")}" starts one`);
  }
  const rewards = new Map(
    state.services.filter(({ kind }) => kind === "reward").map((s) => [s.name, s.address]),
  );
  checkNames(names, { known: [...rewards.keys()], file: state.file });
  return await connect(trainer.address, {
    ...{ rewards, tlsFiles: state.clientTls ?? {}, tokenFile: state.trainerTokenFile },
  });
}

/**
 * Starts the trainer and the reward services of these names as processes of their own, on free ports, until it is
 * disposed of. Runs and logs lie in `folder`, which no other process may have.
 */
export async function ownStack(
  described: Stack,
  { folder, names, signal }: {
    readonly folder: string;
    readonly names: readonly string[];
    readonly signal: AbortSignal;
  },
): Promise<StudyStack> {
  checkNames(names, { known: described.rewards.map(({ name }) => name), file: described.file });
  const state = new StateFolder(join(folder, "services"));
  if (!await state.take()) {
    throw new UsageError(`${folder} is being worked on by another process`);
  }
  const runs = join(folder, "runs");
  await mkdir(runs, { recursive: true });
  const portsFile = join(state.path, "ports.json");
  const known = await knownPorts(portsFile);
  const withPort = <T>(service: T, name: string) => ({ ...service, port: known[name] ?? 0 });
  const stack = choosePorts({
    ...described,
    ...{ runs, state: state.path },
    rewards: described.rewards.filter(({ name }) => names.includes(name))
      .map(({ metricsPort: _, admin: __, ...reward }) => withPort(reward, reward.name)),
    trainer: withPort({ ...described.trainer, metricsPort: undefined }, "trainer"),
  });
  const ports = [...stack.rewards, { ...stack.trainer, name: "trainer" }]
    .map(({ name, port }) => [name, port] as const);
  await writeFile(portsFile, JSON.stringify({ ...known, ...Object.fromEntries(ports) }));
  const tls = await readClientTls(stack.clientTls);
  const services = serviceDefinitions(stack, localPlace(stack)).filter(({ kind }) =>
    kind !== "gateway"
  )
    .map((definition) =>
      new SupervisedService(definition, {
        ...{ folder: stack.models, logFile: state.logFile(definition.name), tls },
        onChange: () => {},
      })
    );
  const stop = async () => {
    // The trainer finishes its iteration with the rewards.
    for (const isTrainer of [true, false]) {
      const part = services.filter(({ definition }) =>
        (definition.kind === "trainer") === isTrainer
      );
      await Promise.all(part.map((service) => service.stop(GRACE_MS)));
    }
    state.release();
  };
  try {
    const given = new Promise<never>((_, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    });
    given.catch(() => {});
    await Promise.race([Promise.all(services.map(({ firstReady }) => firstReady)), given]);
    const addresses = new Map(
      services.map(({ definition, status }) => [definition.name, status.address]),
    );
    const { clientTls, trainer: { tokenFile } } = stack;
    const connected = await connect(addresses.get("trainer") ?? "", {
      ...{ rewards: addresses, tlsFiles: clientTls, tokenFile },
    });
    return {
      ...connected,
      async [Symbol.asyncDispose]() {
        await connected[Symbol.asyncDispose]();
        await stop();
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/**
 * Ports of services by name, as they were chosen first: a run that was interrupted has its rewards' addresses in its
 * configuration and must find them there.
 */
async function knownPorts(file: string): Promise<Readonly<Record<string, number>>> {
  const text = await readFile(file, "utf8").catch(() => "{}");
  return z.record(z.string(), z.int()).parse(JSON.parse(text));
}

function checkNames(
  names: readonly string[],
  { known, file }: { readonly known: readonly string[]; readonly file: string },
): void {
  const missing = names.filter((name) => !known.includes(name));
  if (missing.length === 0) return;
  throw new UsageError(
    `${file} has no reward ${missing.map((name) => `"${name}"`).join(", ")}: it has ${
      known.join(", ")
    }`,
  );
}

async function connect(
  address: string,
  { rewards, tlsFiles, tokenFile }: {
    readonly rewards: ReadonlyMap<string, string>;
    readonly tlsFiles: ClientTlsFiles;
    readonly tokenFile: string | undefined;
  },
): Promise<StudyStack> {
  const tls = await readClientTls(tlsFiles);
  const token = tokenFile === undefined ? undefined : await readToken(tokenFile);
  await checkAnswers(address, { what: "The trainer", tls });
  const trainer = grpcClient(TrainerService, address, {
    ...{ retry: { attempts: 5 }, tls, keepalive: KEEPALIVE },
    ...(token !== undefined && { token }),
  });
  return {
    ...{ trainer, rewards, tls },
    [Symbol.asyncDispose]() {
      trainer.close();
      return Promise.resolve();
    },
  };
}
