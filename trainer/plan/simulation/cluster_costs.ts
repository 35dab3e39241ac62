/** What things take in a cluster, as measured or estimated. Times are in seconds, sizes in bytes. */
export interface ClusterCosts {
  /** A shard on a worker, rewards not counted. */
  readonly shard: {
    /** Whatever its size. */
    readonly fixed: number;
    readonly perImage: number;
    /** Share of it before rewards are asked: sampling and decoding. */
    readonly beforeReward: number;
    /** Standard deviation over mean, of a lognormal distribution. */
    readonly spread: number;
  };
  /** What a worker takes to make an iteration's LoRA its own when it has it. */
  readonly adapt: number;
  /** All rewards of a mixture, asked at once: the slowest one's. */
  readonly reward: {
    /** Servers that a call's images are divided among. Infinity where nobody waits for another. */
    readonly replicas: number;
    readonly perCall: number;
    readonly perImage: number;
  };
  /** Bytes of the LoRA, and of its gradient. */
  readonly adapterBytes: number;
  readonly network: {
    readonly roundTrip: number;
    /** Between the trainer and everybody else, each way. */
    readonly trainerBytesPerSecond: number;
    readonly workerBytesPerSecond: number;
  };
  readonly trainer: {
    /** To publish a job. */
    readonly perJob: number;
    /** To take in a result, beside its bytes. */
    readonly perResult: number;
    /** To begin and to end an iteration, beside the LoRA's bytes. */
    readonly perIteration: number;
    /** For each byte of the LoRA. */
    readonly perByte: {
      /** To send it to a worker. */
      readonly sent: number;
      /** To take a result's gradient in: its pieces, its digest, its tensors and their sum. */
      readonly taken: number;
      /** To update it: norm, AdamW, digest. */
      readonly updated: number;
    };
  };
  /** Deaths of workers. Default: none. */
  readonly failures?: {
    /** Mean time between two of one worker. */
    readonly meanSeconds: number;
    /** Until the job of a dead worker is another's. */
    readonly silence: number;
    /** Until there is a new worker in its place, its model loaded. */
    readonly restart: number;
  };
}

/** How a run is cut, and for how many. */
export interface ClusterShape {
  readonly workers: number;
  /** Of one batch; an iteration has `accumulation` of them. */
  readonly batchSize: number;
  readonly accumulation: number;
  /** Images of a shard; the last one of a batch may have fewer. */
  readonly shardImages: number;
}

/**
 * What a trainer takes, in seconds of one core of a server's processor (AMD EPYC), measured with a LoRA of 25 MB: of 93 ms
 * for a gradient its pieces from NATS are 43, its digest 18, its tensors 12, their sum 20. And a network of 10 Gbit/s at
 * the trainer and at each worker, in one building.
 */
export const USUAL_COSTS = {
  network: { roundTrip: 5e-4, trainerBytesPerSecond: 1.25e9, workerBytesPerSecond: 1.25e9 },
  trainer: {
    ...{ perJob: 5e-4, perResult: 2e-3, perIteration: 2e-2 },
    perByte: { sent: 1.7e-9, taken: 3.6e-9, updated: 7.1e-9 },
  },
} as const satisfies Pick<ClusterCosts, "network" | "trainer">;
