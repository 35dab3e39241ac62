import process from "node:process";
import { type Tensor, tensorOver } from "../autodiff/mod.ts";
import { checkTensor } from "./_check_tensor.ts";
import { cpuSeconds } from "./cpu_seconds.ts";
import { checkWeights } from "./_check_weights.ts";
import { ignoreClosed } from "./_ignore_closed.ts";
import { KeptTensors } from "./_kept_tensors.ts";
import { type ModelFacts, readModelFacts } from "./_model_facts.ts";
import { OrtSession } from "./_ort_session.ts";
import { resolveFeeds } from "./_resolve_feeds.ts";
import { SerialQueue } from "../base/mod.ts";
import { bytesOf } from "./_tensor_bytes.ts";
import { RuntimeError } from "./errors.ts";
import type {
  Engine,
  Feed,
  ModelSource,
  Place,
  RunOptions,
  Session,
  SessionOptions,
  Tensors,
} from "./session.ts";

/**
 * Runs sessions in this process. A load or a run blocks the JavaScript thread for its whole length: a process
 * that must answer meanwhile uses `ChildEngine`.
 */
export class InProcessEngine implements Engine {
  readonly pid = process.pid;
  readonly #queue = new SerialQueue();
  readonly #kept = new KeptTensors();
  readonly #live = new Set<OrtSession>();

  load(model: ModelSource, options: SessionOptions = {}): Promise<Session> {
    return this.#queue.add(async () => {
      const { bytes, name = "unnamed" } = model;
      const facts = readModelFacts(bytes, name);
      const weightsRoot = await checkedRoot(model, facts);
      const session = await OrtSession.create(bytes, { ...options, name, weightsRoot });
      this.#live.add(session);
      return new InProcessSession(session, {
        name,
        scalarInputs: facts.scalarInputs,
        queue: this.#queue,
        kept: this.#kept,
        live: this.#live,
      });
    });
  }

  place(name: string): Place {
    return { place: name };
  }

  async keep(place: Place, tensor: Tensor): Promise<void> {
    await this.#queue.add(() => {
      checkTensor(`Tensor '${place.place}'`, tensor);
      const copy = bytesOf(tensor).slice();
      this.#kept.set(place, tensorOver({ dtype: tensor.dtype, shape: [...tensor.shape] }, copy));
    });
  }

  async forget(...places: readonly Place[]): Promise<void> {
    await this.#queue.add(() => {
      for (const place of places) this.#kept.delete(place);
    });
  }

  cpuSeconds(): Promise<number> {
    return Promise.resolve(cpuSeconds());
  }

  async close(): Promise<void> {
    this.#queue.close(new RuntimeError("closed", "The engine is closed"));
    await this.#queue.idle();
    for (const session of this.#live) await session.release();
    this.#live.clear();
    this.#kept.clear();
  }
}

async function checkedRoot(
  { weightsRoot, name = "unnamed" }: ModelSource,
  { externalData }: ModelFacts,
): Promise<string | undefined> {
  const [first] = externalData;
  if (first === undefined) return undefined;
  if (weightsRoot !== undefined) return await checkWeights(externalData, weightsRoot);
  throw new RuntimeError(
    "weights_invalid",
    `Model '${name}' keeps '${first.tensor}' in '${first.location}' and came without a weights root`,
  );
}

/** What a session shares with its engine. */
interface Surroundings {
  readonly name: string;
  readonly scalarInputs: ReadonlySet<string>;
  readonly queue: SerialQueue;
  readonly kept: KeptTensors;
  /** The sessions not yet disposed. */
  readonly live: Set<OrtSession>;
}

class InProcessSession implements Session {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  readonly #session: OrtSession;
  readonly #in: Surroundings;

  constructor(session: OrtSession, surroundings: Surroundings) {
    this.inputNames = session.inputs.map(({ name }) => name);
    this.outputNames = session.outputNames;
    this.#session = session;
    this.#in = surroundings;
  }

  run(
    feeds: Readonly<Record<string, Feed>>,
    fetches?: readonly string[],
    { signal, keep = {} }: RunOptions = {},
  ): Promise<Tensors> {
    const { name, queue, live, kept, scalarInputs } = this.#in;
    return queue.add(async () => {
      if (!live.has(this.#session)) throw new RuntimeError("closed", `Model '${name}' is disposed`);
      const wanted = fetches ?? this.outputNames.filter((output) => !(output in keep));
      this.#checkFetches([...wanted, ...Object.keys(keep)]);
      const { inputs } = this.#session;
      const tensors = resolveFeeds(feeds, { inputs, scalarInputs, kept });
      let outputs: Tensors;
      try {
        outputs = await this.#session.run(tensors, [...wanted, ...Object.keys(keep)]);
      } catch (cause) {
        const reason = cause instanceof Error ? cause.message : String(cause);
        throw new RuntimeError("run_failed", `Model '${name}' failed: ${reason}`, { cause });
      }
      for (const [output, place] of Object.entries(keep)) {
        const tensor = outputs[output];
        if (tensor !== undefined) kept.set(place, tensor);
        delete outputs[output];
      }
      return outputs;
    }, signal);
  }

  async dispose(): Promise<void> {
    const { queue, live } = this.#in;
    await ignoreClosed(queue.add(async () => {
      if (live.delete(this.#session)) await this.#session.release();
    }));
  }

  #checkFetches(fetches: readonly string[]): void {
    const names = this.outputNames;
    const unknown = fetches.find((fetch) => !names.includes(fetch));
    const twice = fetches.find((fetch, i) => fetches.indexOf(fetch) !== i);
    if (unknown === undefined && twice === undefined && fetches.length > 0) return;
    const found = unknown !== undefined
      ? `Fetch '${unknown}' is unknown`
      : twice !== undefined
      ? `Fetch '${twice}' is named twice`
      : "No fetch is named";
    throw new RuntimeError("fetch_invalid", `${found}, expected some of ${names.join(", ")}`);
  }
}
