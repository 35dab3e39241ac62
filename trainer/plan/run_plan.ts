import { type Target, totalFlops } from "../../compile/mod.ts";
import {
  type ModelGraph,
  type Pipeline,
  textGraphs,
  unetModules,
} from "../../models/diffusers/mod.ts";
import { loraChanges } from "../../models/lora/mod.ts";
import { isFlow, type TextToImage } from "../../models/flow/mod.ts";
import { Random } from "../../models/random/mod.ts";
import type { Provider } from "../../runtime/mod.ts";
import { selectSteps } from "../methods/mod.ts";
import {
  decoderNetwork,
  DEFAULT_LIMITS,
  ENGINE_BYTES,
  footprint,
  type MemoryLimits,
  piecesFootprint,
  type RunnableNetwork,
  unetNetwork,
} from "../model/mod.ts";
import { chunkSizes } from "../model/_chunks.ts";
import type { RunConfig } from "../run/run_config.ts";
import { flowWork } from "./_flow_work.ts";
import type { MethodMeans, PhasePlan, Work } from "./work.ts";
import { secondsOf, type Speed } from "./speed.ts";

/** What an iteration takes, rewards not counted: estimated before anything is loaded. */
export interface RunPlan {
  readonly phases: readonly PhasePlan[];
  /** Most bytes of the process that runs the networks. */
  readonly bytes: number;
  /** Bytes of the LoRA in float32. */
  readonly adapterBytes: number;
  readonly secondsPerIteration: number;
  /** Why the times may be wrong; absent where nothing is known. */
  readonly remark?: string;
}

/** Draws of a method that a mean is taken over. */
const DRAWS = 256;

/**
 * Estimates memory and time of an iteration from the shapes of its graphs; reads no weights. `config` must be prepared:
 * latents' size and memory limit filled in.
 */
export function planRun(
  config: RunConfig,
  { pipeline, speed, limits = {}, provider }: {
    readonly pipeline: TextToImage;
    readonly speed: Speed;
    readonly limits?: MemoryLimits;
    readonly provider?: Provider | undefined;
  },
): RunPlan {
  const memory = limits.memory ?? (config.memoryLimit ?? Infinity) * 2 ** 30;
  const target = { memory, provider: provider ?? "cpu", precision: config.precision };
  const all = isFlow(pipeline)
    ? flowWork(config, { pipeline, target, limits, means: meansOf(config) })
    : workOf(config, { pipeline, target, limits });
  const adapterBytes = loraBytes(all);
  return {
    adapterBytes,
    phases: all.map((work) => phaseOf(work, { speed, iterations: config.batch.accumulation })),
    bytes: peakBytes(all, { memory, adapters: adapterBytes }),
    secondsPerIteration: all.reduce(
      (sum, work) => sum + phaseOf(work, { speed, iterations: config.batch.accumulation }).seconds,
      0,
    ),
    ...busyRemark(speed, navigator.hardwareConcurrency),
  };
}

/** What is to be known of times that were measured while others used the machine. */
export function busyRemark(
  { load = 0 }: Pick<Speed, "load">,
  processors: number,
): Pick<RunPlan, "remark"> {
  if (load <= processors) return {};
  const threads = `${Math.round(load)} threads wanted ${processors} processors`;
  return {
    remark:
      `This machine was busy when its speed was measured, ${threads}: otherwise it takes less time`,
  };
}

/** The networks that one batch runs, in the order of an iteration. */
function workOf(
  config: RunConfig,
  { pipeline, target, limits }: {
    readonly pipeline: Pipeline;
    readonly target: Target;
    readonly limits: MemoryLimits;
  },
): readonly Work[] {
  const { batch: { size: images }, guidance, lora, drift } = config;
  const { latentHeight: height = 1, latentWidth: width = 1 } = config;
  const { steps, trained, backward, redraws, nested, inputStopGradient } = meansOf(config);
  const changes = loraChanges(unetModules(pipeline.unet), lora);
  const tokens = pipeline.textEncoders[0]?.config.contextLength ?? 77;
  const limit = (name: keyof typeof DEFAULT_LIMITS) =>
    (limits[name] ?? DEFAULT_LIMITS[name]) / (height * width);
  const unet = (
    task: Parameters<typeof unetNetwork>[1]["task"],
    rows: number,
    { contexts, times }: { contexts: number; times: number },
  ) =>
    // Chunks of a size share one graph: to build it is what a plan takes.
    chunkSizes(rows, limit(task === "prediction" ? "forward" : "products") / contexts).map((
      chunk,
    ) => ({
      network: unetNetwork(pipeline.unet, {
        task,
        size: { batch: chunk.size, contexts, height, width, tokens },
        changes,
        ...target,
      }),
      times: times * chunk.times,
    }));
  const vae = (task: "image" | "product") =>
    chunkSizes(images, limit(task === "image" ? "decode" : "decodeProducts")).map((chunk) => ({
      network: decoderNetwork(pipeline.vae, {
        task,
        size: { batch: chunk.size, height, width },
        ...target,
      }),
      times: (1 + redraws) * chunk.times,
    }));
  const both = guidance.scale === 1 ? 1 : 2;
  const branches = guidance.scale === 1 || guidance.gradient !== "both" ? 1 : 2;
  const penalties = drift.weight > 0 ? trained : 0;
  // Pictures are predicted, and their gradient taken, without guidance.
  const held = config.pretrain === undefined ? 0 : 1;
  const rows = Math.max(1, Math.round((trained - nested) * images));
  return [
    {
      name: "text",
      networks: textGraphs(pipeline, { batch: 1, tokens, target }).map((
        graph,
      ) => ({
        network: { kind: "whole", name: graph.name, graph },
        times: images,
      })),
    },
    {
      name: "sampling",
      networks: [
        ...unet("prediction", images, { contexts: both, times: steps + redraws + penalties }),
        ...held > 0 ? unet("prediction", images, { contexts: 1, times: held }) : [],
      ],
    },
    { name: "decoder", networks: vae("image") },
    { name: "decoder gradient", networks: vae("product") },
    {
      name: "U-Net gradient",
      networks: [
        ...inputStopGradient
          ? unet("product", rows, { contexts: branches, times: 1 })
          : unet("product with input", images, { contexts: branches, times: backward }),
        ...nested > 0
          ? unet("product with input", images, { contexts: branches, times: nested })
          : [],
        ...redraws > 0 ? unet("product", images, { contexts: branches, times: redraws }) : [],
        ...held > 0 ? unet("product", images, { contexts: 1, times: held }) : [],
      ],
    },
  ];
}

function meansOf({ method, sampler: { steps: T } }: RunConfig): MethodMeans {
  const random = new Random(0);
  let [steps, trained, backward, nested] = [0, 0, 0, 0];
  let redraws = 0;
  for (let i = 0; i < DRAWS; i++) {
    const drawn = selectSteps(method, { T, random });
    const end = drawn.tMin === 0 ? T : T - drawn.tMin + 1;
    const reached = drawn.trainSteps.filter((t) => T - t < end);
    steps += end / DRAWS;
    trained += reached.length / DRAWS;
    backward += (end - (T - Math.max(...reached))) / DRAWS;
    redraws = drawn.redraws;
    const { bridge } = drawn.surrogate ?? {};
    if (bridge !== undefined && bridge.alpha > 0) nested += 1 / DRAWS;
  }
  return { steps, trained, backward, redraws, nested, inputStopGradient: method.inputStopGradient };
}

function phaseOf(
  { name, networks }: Work,
  { speed, iterations }: { readonly speed: Speed; readonly iterations: number },
): PhasePlan {
  let [runs, flops, seconds, bytes, pieces] = [0, 0, 0, 0, 1];
  for (const { network, times } of networks) {
    const graphs = graphsOf(network);
    const count = times * iterations;
    runs += count;
    flops += count * graphs.reduce((sum, { cost }) => sum + totalFlops(cost), 0);
    seconds += count *
      graphs.reduce(
        (sum, { cost, sessionOptions: { foldConstants: fold = true } }) =>
          sum + secondsOf(cost, { speed, fold }),
        0,
      );
    // Pieces are loaded for every run.
    if (network.kind === "pieces") {
      seconds += count *
        graphs.reduce((sum, { cost }) => sum + cost.operators * speed.loading, 0);
    }
    bytes = Math.max(bytes, bytesOf(network));
    if (network.kind === "pieces") pieces = Math.max(pieces, network.pieces.pieces.length);
  }
  return { name, runs, pieces, bytes, flops, seconds };
}

/** The graphs that running a network runs, each once. */
function graphsOf(network: RunnableNetwork): readonly ModelGraph[] {
  if (network.kind === "whole") return [network.graph];
  const { pieces } = network.pieces;
  const isDifferentiated = pieces.some(({ gradient }) => gradient !== undefined);
  return pieces.flatMap(({ forward, gradient }, i) => [
    // The last piece's value is computed with its gradient alone.
    ...isDifferentiated && i === pieces.length - 1 ? [] : [forward],
    ...gradient ? [gradient.graph] : [],
  ]);
}

function bytesOf(network: RunnableNetwork): number {
  return network.kind === "whole" ? footprint(network.graph.cost) : piecesFootprint(network.pieces);
}

/** LoRA tensors, which the engine keeps. */
function loraBytes(all: readonly Work[]): number {
  const [first] = all.find(({ name }) => name === "sampling")?.networks ?? [];
  if (first === undefined) return 0;
  const graphs = first.network.kind === "whole"
    ? [first.network.graph]
    : first.network.pieces.pieces.map(({ forward }) => forward);
  const shapes = graphs.flatMap(({ inputs }) =>
    Object.entries(inputs).flatMap(([name, { shape }]) => name.includes(".lora_") ? [shape] : [])
  );
  return 4 * shapes.reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0);
}

/** What the sessions take that are loaded at once, as `SessionCache` keeps and frees them, over two iterations. */
function peakBytes(
  all: readonly Work[],
  { memory, adapters }: { readonly memory: number; readonly adapters: number },
): number {
  const held = new Map<string, number>();
  const total = () => [...held.values()].reduce((sum, bytes) => sum + bytes, 0);
  let peak = 0;
  const networks = all.flatMap((work) => work.networks.map(({ network }) => network));
  for (const network of [...networks, ...networks]) {
    const { name } = network;
    const bytes = bytesOf(network);
    held.delete(name);
    for (const oldest of [...held.keys()]) {
      if (ENGINE_BYTES + total() + bytes <= memory) break;
      held.delete(oldest);
    }
    peak = Math.max(peak, total() + bytes);
    if (network.kind === "whole") held.set(name, bytes);
  }
  return ENGINE_BYTES + adapters + peak;
}
