/** The thread of a `TrainerThread`: holds the store of runs, trains, and does the work of the trainer service's calls. */
import { TrainerService } from "../../proto/mod.ts";
import {
  openRunModel,
  prepareRunConfig,
  type RewardTerm,
  type RunDependencies,
  RunEstimator,
  RunStateError,
  RunStore,
} from "../../trainer/mod.ts";
import { createLogger, type Logger } from "../../base/mod.ts";
import { serveHandlers } from "../rpc/mod.ts";
import { lowerPriority } from "./_lower_priority.ts";
import { checkRewards, connectReward } from "../reward_client/mod.ts";
import type { Cluster } from "./cluster/mod.ts";
import { recordRun } from "./tensorboard/record_run.ts";
import { TrainerMetrics } from "./trainer_metrics.ts";
import { trainerErrors } from "./trainer_errors.ts";
import { trainerHandlers } from "./trainer_service.ts";
import type { Opened, Question, TrainerThreadOptions } from "./trainer_thread.ts";

/** Between two tries to lock the folder of runs, in milliseconds. */
const LOCK_MS = 250;

lowerPriority();
const metrics = new TrainerMetrics();
let store: RunStore | undefined;
let cluster: Cluster | undefined;

self.addEventListener("message", (event: MessageEvent<Question>) => void answer(event.data));

async function answer(question: Question): Promise<void> {
  const { port } = question;
  switch (question.what) {
    case "open": {
      const opened: Opened = await open(question.options, question.calls).then(
        () => ({}),
        (error) => ({ fault: error instanceof Error ? error.message : String(error) }),
      );
      return port.postMessage(opened);
    }
    case "families":
      return port.postMessage(store ? metrics.families(store) : []);
    case "close":
      await store?.close();
      await cluster?.close();
      return port.postMessage(undefined);
  }
}

async function open(
  { models, runs, rewards, rewardTls, session, logLevel, cluster: joined }: TrainerThreadOptions,
  port: MessagePort,
): Promise<void> {
  const log = createLogger({ level: logLevel });
  if (joined !== undefined) {
    // Without a cluster nothing of NATS is loaded.
    const { Cluster } = await import("./cluster/mod.ts");
    cluster = await Cluster.join({ ...joined, log });
  }
  const connect = (term: RewardTerm, signal: AbortSignal) =>
    connectReward(term, {
      tls: rewardTls,
      signal,
      onSetAside: (reason) => log.warn("A replica is set aside", { reward: term.name, reason }),
    });
  const estimator = new RunEstimator({ root: models, session });
  const dependencies: RunDependencies = {
    prepare: (config) => prepareRunConfig(config, { root: models, session }),
    openModel: (config) => openRunModel(config, { root: models, session }),
    estimate: (config) => estimator.estimate(config),
    connect,
    ...(cluster && { workers: cluster }),
    admit: (config) => checkRewards(config, connect),
    record: (run) => metrics.record(run, (run) => recordRun(run, { log })),
  };
  store = await openStore(runs, { dependencies, log, isPatient: cluster !== undefined });
  for (const [run, reason] of store.unreadable) log.warn("Run is unreadable", { run, reason });
  const handlers = trainerHandlers({
    store,
    dependencies,
    modelRoot: models,
    rewards,
    workers: () => cluster?.table.list() ?? [],
  });
  serveHandlers(TrainerService, handlers, { port, mapError: trainerErrors });
}

/** Opens the folder of runs. The one who led before may hold its lock still; a patient trainer waits for that. */
async function openStore(
  runs: string,
  { dependencies, log, isPatient }: {
    readonly dependencies: RunDependencies;
    readonly log: Logger;
    readonly isPatient: boolean;
  },
): Promise<RunStore> {
  for (let tries = 0;; tries++) {
    try {
      return await RunStore.open(runs, dependencies);
    } catch (error) {
      if (!(isPatient && error instanceof RunStateError)) throw error;
      if (tries === 0) log.warn(`Waits: ${error.message}`);
      await new Promise((wait) => setTimeout(wait, LOCK_MS));
    }
  }
}
