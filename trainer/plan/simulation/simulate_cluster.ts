import { Random } from "../../../models/random/mod.ts";
import { type Course, Events, type Process, type Wait } from "./_events.ts";
import { Line, Server, Signal } from "./_resources.ts";
import type { ClusterCosts, ClusterShape } from "./cluster_costs.ts";

/** What would bound an iteration if everything else were free. */
export const PARTS = ["workers", "rewards", "trainer", "network out", "network in"] as const;
export type Part = (typeof PARTS)[number];

/** What a run on a cluster is predicted to take. */
export interface ClusterEstimate {
  readonly secondsPerIteration: number;
  /** Share of the time in which each part works; of several workers or replicas the mean. */
  readonly busy: Readonly<Record<Part, number>>;
  /** Jobs that were computed in vain, of an iteration. */
  readonly lostJobs: number;
}

/** Bytes of a piece of a blob, and pieces that are asked for at a time; see services/cluster. */
const [PIECE_BYTES, WINDOW] = [2 ** 19, 4];
/** Results whose tensors the trainer fetches at a time. */
const FETCHED_AT_ONCE = 4;

/**
 * Plays so many iterations, at least two, and answers the mean of one; the first is not counted. Events
 * are those of services/cluster: workers take jobs one by one, fetch the LoRA once an iteration, and compute the next job
 * while a result is fetched from them.
 */
export function simulateCluster(
  costs: ClusterCosts,
  shape: ClusterShape,
  { iterations, seed }: { readonly iterations: number; readonly seed: number },
): ClusterEstimate {
  if (iterations < 2) throw new RangeError(`Iterations are ${iterations}, expected at least 2`);
  return new SimulatedCluster(costs, shape, new Random(seed)).play(iterations);
}

class SimulatedCluster {
  readonly #costs: ClusterCosts;
  readonly #shape: ClusterShape;
  readonly #random: Random;
  readonly #events = new Events();
  readonly #out: Line;
  readonly #in: Line;
  readonly #trainer: Server;
  readonly #fetching: Semaphore;
  readonly #rewards: Server;
  /** Images of each job that nobody has. */
  #jobs: number[] = [];
  readonly #idle: (() => void)[] = [];
  #iteration = 0;
  #left = 0;
  #done = new Signal();
  #workerSeconds = 0;
  #lost = 0;

  constructor(costs: ClusterCosts, shape: ClusterShape, random: Random) {
    const { network, reward } = costs;
    const events = this.#events;
    this.#costs = costs;
    this.#shape = shape;
    this.#random = random;
    const line = {
      bytesPerSecond: network.trainerBytesPerSecond,
      mostEach: Math.min(
        network.workerBytesPerSecond,
        WINDOW * PIECE_BYTES / Math.max(network.roundTrip, 1e-9),
      ),
    };
    this.#out = new Line(events, line);
    this.#in = new Line(events, line);
    this.#trainer = new Server(events, 1);
    this.#fetching = new Semaphore(FETCHED_AT_ONCE);
    this.#rewards = new Server(events, reward.replicas);
  }

  play(iterations: number): ClusterEstimate {
    const { workers } = this.#shape;
    let begun = 0;
    let before = this.#worked();
    const trainer = this.#events.spawn(this.#train(iterations, () => {
      if (this.#iteration !== 1) return;
      begun = this.#events.now;
      before = this.#worked();
    }));
    for (let i = 0; i < workers; i++) this.#employ();
    this.#events.run(() => trainer.isOver);
    const seconds = this.#events.now - begun;
    const after = this.#worked();
    const share = (part: Part, places: number) => (after[part] - before[part]) / (seconds * places);
    const counted = iterations - 1;
    return {
      secondsPerIteration: seconds / counted,
      busy: {
        workers: share("workers", workers),
        rewards: share("rewards", this.#costs.reward.replicas),
        trainer: share("trainer", 1),
        "network out": share("network out", 1),
        "network in": share("network in", 1),
      },
      lostJobs: this.#lost / iterations,
    };
  }

  #worked(): Readonly<Record<Part, number>> {
    return {
      workers: this.#workerSeconds,
      rewards: this.#rewards.busySeconds,
      trainer: this.#trainer.busySeconds,
      "network out": this.#out.busySeconds,
      "network in": this.#in.busySeconds,
    };
  }

  *#train(iterations: number, onEnd: () => void): Course {
    const { adapterBytes, trainer: { perJob, perIteration, perByte } } = this.#costs;
    for (let i = 0; i < iterations; i++) {
      const shards = this.#shards();
      this.#left = shards.length;
      this.#done = new Signal();
      yield this.#trainer.serve(perIteration / 2);
      for (const images of shards) {
        yield this.#trainer.serve(perJob);
        this.#offer(images);
      }
      yield this.#done.wait;
      yield this.#trainer.serve(perIteration / 2 + perByte.updated * adapterBytes);
      this.#iteration++;
      onEnd();
    }
  }

  /** Images of each shard of an iteration. */
  #shards(): readonly number[] {
    const { batchSize, accumulation, shardImages } = this.#shape;
    const count = Math.ceil(batchSize / shardImages);
    const batch = Array.from(
      { length: count },
      (_, i) => Math.min(shardImages, batchSize - i * shardImages),
    );
    return Array.from({ length: accumulation }, () => batch).flat();
  }

  #offer(images: number): void {
    this.#jobs.push(images);
    this.#idle.shift()?.();
  }

  /** A worker, and after its death another in its place. */
  #employ(): void {
    const { failures } = this.#costs;
    const life: Life = { process: undefined, job: undefined };
    life.process = this.#events.spawn(this.#work(life));
    if (failures === undefined) return;
    const death = -failures.meanSeconds * Math.log(1 - this.#random.uniform());
    this.#events.after(death, () => {
      if (life.process) life.process.isOver = true;
      const { job } = life;
      if (job !== undefined) {
        this.#lost++;
        this.#events.after(failures.silence, () => this.#offer(job));
      }
      this.#events.after(failures.restart, () => this.#employ());
    });
  }

  *#work(life: Life): Course {
    const { shard, adapt, reward, adapterBytes, network: { roundTrip }, trainer } = this.#costs;
    let [known, telling] = [-1, new Signal()];
    telling.come();
    for (;;) {
      const images = this.#jobs.shift();
      if (images === undefined) {
        yield (resume) =>
          void this.#idle.push(() => life.process?.isOver ? this.#idle.shift()?.() : resume());
        continue;
      }
      life.job = images;
      yield this.#pause(roundTrip);
      const begun = this.#events.now;
      if (known !== this.#iteration) {
        known = this.#iteration;
        yield this.#pause(roundTrip);
        yield this.#trainer.serve(trainer.perByte.sent * adapterBytes);
        yield this.#out.transfer(adapterBytes);
        yield this.#pause(adapt);
      }
      const seconds = (shard.fixed + images * shard.perImage) * this.#factor();
      yield this.#pause(shard.beforeReward * seconds);
      yield this.#ask(images, reward);
      yield this.#pause((1 - shard.beforeReward) * seconds);
      this.#workerSeconds += this.#events.now - begun;
      yield telling.wait;
      telling = new Signal();
      life.job = undefined;
      this.#events.spawn(this.#tell(telling));
    }
  }

  /** A result on its way to the trainer, for which its worker does not wait. */
  *#tell(told: Signal): Course {
    const { adapterBytes, trainer: { perResult, perByte }, network: { roundTrip } } = this.#costs;
    yield this.#pause(roundTrip);
    yield this.#fetching.enter;
    yield this.#pause(roundTrip);
    yield this.#in.transfer(adapterBytes);
    this.#fetching.leave();
    yield this.#trainer.serve(perResult + perByte.taken * adapterBytes);
    told.come();
    if (--this.#left === 0) this.#done.come();
  }

  /** A call to the rewards, its images divided among replicas. */
  #ask(images: number, { replicas, perCall, perImage }: ClusterCosts["reward"]): Wait {
    const parts = Math.min(images, replicas);
    return (resume) => {
      let left = parts;
      for (let i = 0; i < parts; i++) {
        const count = Math.floor((i + 1) * images / parts) - Math.floor(i * images / parts);
        this.#rewards.serve(perCall + count * perImage)(() => {
          if (--left === 0) resume();
        });
      }
    };
  }

  #pause(seconds: number): Wait {
    return (resume) => this.#events.after(seconds, resume);
  }

  /** Lognormal with mean 1. */
  #factor(): number {
    const { spread } = this.#costs.shard;
    if (spread === 0) return 1;
    const variance = Math.log(1 + spread ** 2);
    const [normal = 0] = this.#random.normals(1);
    return Math.exp(Math.sqrt(variance) * normal - variance / 2);
  }
}

/** What a worker has when it dies. */
interface Life {
  process: Process | undefined;
  /** Images of its job. */
  job: number | undefined;
}

/** Lets so many processes enter at a time. */
class Semaphore {
  readonly #waiting: (() => void)[] = [];
  #free: number;

  constructor(places: number) {
    this.#free = places;
  }

  readonly enter: Wait = (resume) => {
    if (this.#free > 0) {
      this.#free--;
      resume();
    } else this.#waiting.push(resume);
  };

  leave(): void {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#free++;
  }
}
