import {
  Builder,
  float32,
  gradient,
  type Shape,
  type TensorOf,
  type Value,
} from "../autodiff/mod.ts";
import type { Feed, RunOptions, Session } from "../runtime/mod.ts";
import { checkImages, checkPrompts } from "./_check_images.ts";
import type { RewardDefinition } from "./_reward_definition.ts";
import type { RewardSessions } from "./_reward_sessions.ts";
import { TextEmbedder } from "./_text_embedder.ts";
import { RewardInputError } from "./errors.ts";
import {
  fitImages,
  fitRecipe,
  fitUint8,
  isIdentityFit,
  type PlaneFit,
  type Resizer,
} from "./preprocess/mod.ts";
import type { Images, Reward, RewardInfo, RewardResult, ScoreOptions } from "./reward.ts";

/** What a `GraphReward` runs on. */
export interface GraphRewardOptions {
  readonly sessions: RewardSessions;
  /** Most images in one run; a batch is run in powers of two up to this. */
  readonly maxBatch: number;
  /** Called when the sessions have been freed. */
  readonly onDispose: () => Promise<void>;
}

type Float32Tensor = TensorOf<"float32">;

/** What the reward's graph gives for some images. */
interface Scored {
  readonly score: Float32Tensor;
  readonly gradient?: Float32Tensor;
}

/**
 * Runs a reward as a chain of graphs: text to embedding, image to pixels, pixels (and embedding) to score and
 * d score / d pixels, d / d pixels to d / d image. Only the graph of the model holds weights, and it does not depend on the
 * size of the image; the two around it are linear.
 */
export class GraphReward implements Reward {
  readonly info: RewardInfo;
  readonly extras?: NonNullable<Reward["extras"]>;
  readonly #definition: RewardDefinition;
  readonly #sessions: RewardSessions;
  readonly #texts: TextEmbedder | undefined;
  readonly #maxBatch: number;
  readonly #onDispose: () => Promise<void>;

  constructor(info: RewardInfo, definition: RewardDefinition, options: GraphRewardOptions) {
    this.info = info;
    this.#definition = definition;
    this.#sessions = options.sessions;
    this.#maxBatch = options.maxBatch;
    this.#onDispose = options.onDispose;
    this.#texts = definition.text && new TextEmbedder(definition.text, options.sessions);
    const { extras } = definition;
    if (extras) {
      this.extras = (images) => {
        checkImages(images);
        return extras(images);
      };
    }
  }

  async score(
    images: Images,
    prompts: readonly string[],
    { gradient = false, signal, processing = "tensor" }: ScoreOptions = {},
  ): Promise<RewardResult> {
    signal?.throwIfAborted();
    checkImages(images);
    const [batch = 0, , height = 0, width = 0] = images.shape;
    if (this.info.readsPrompt) checkPrompts(prompts, batch);
    if (gradient && processing === "reference") {
      throw new RewardInputError(
        "Gradient was asked for with processing reference, which has none",
      );
    }
    const { recipe } = this.#definition;
    const fit = recipe && fitRecipe(recipe, { height, width, processing });
    if (fit && (fit.rows.to < 1 || fit.columns.to < 1)) {
      throw new RewardInputError(
        `Images are ${height}x${width}: nothing is left of the shorter side at ${fit.rows.size}x${fit.columns.size} pixels`,
      );
    }
    const scores = new Float32Array(batch);
    const gradients = gradient ? new Float32Array(images.data.length) : undefined;
    const size = 3 * height * width;
    const truncated: number[] = [];
    for (let at = 0, count = 0; at < batch; at += count) {
      count = Math.min(this.#maxBatch, largestPowerOfTwo(batch - at));
      const part = float32(images.data.subarray(at * size, (at + count) * size), [
        count,
        ...images.shape.slice(1),
      ]);
      const texts = await this.#embed(prompts.slice(at, at + count), {
        count,
        signal,
        onTruncated: (i) => truncated.push(at + i),
      });
      const pixels = fit ? await this.#pixels(part, { fit, processing, signal }) : part;
      const scored = await this.#run(pixels, { texts, gradient, signal });
      scores.set(scored.score.data, at);
      if (gradients === undefined || scored.gradient === undefined) continue;
      const back = fit
        ? await this.#pullBack(scored.gradient, { fit, shape: part.shape, signal })
        : scored.gradient;
      gradients.set(back.data, at * size);
    }
    return {
      scores,
      ...(truncated.length > 0 && { truncated }),
      ...(gradients === undefined ? {} : { gradient: float32(gradients, images.shape) }),
    };
  }

  async dispose(): Promise<void> {
    await this.#sessions.dispose();
    await this.#onDispose();
  }

  async #embed(
    prompts: readonly string[],
    { count, signal, onTruncated }: RunOptions & {
      readonly count: number;
      readonly onTruncated: (index: number) => void;
    },
  ): Promise<Float32Tensor | undefined> {
    if (this.#texts === undefined) return undefined;
    const query = this.#definition.text?.query;
    const rows: Float32Array[] = [];
    const texts = query === undefined ? prompts : Array<string>(count).fill(query);
    for (const [i, text] of texts.entries()) {
      const { embedding, truncated } = this.#texts.embed(text, signal);
      rows.push(await embedding);
      if (truncated && query === undefined) onTruncated(i);
    }
    const width = rows[0]?.length ?? 0;
    const all = new Float32Array(count * width);
    for (const [i, row] of rows.entries()) all.set(row, i * width);
    return float32(all, [count, width]);
  }

  async #pixels(
    images: Images,
    { fit, processing, signal }: RunOptions & {
      readonly fit: PlaneFit;
      readonly processing: "tensor" | "reference";
    },
  ): Promise<Float32Tensor> {
    if (processing === "reference") {
      return referencePixels(images, fit, this.#definition.recipe?.referenceResizer);
    }
    if (isIdentityFit(fit)) return images;
    const { shape } = images;
    const write = () => {
      const b = new Builder();
      const image = b.input("image", { dtype: "float32", shape });
      return { b, outputs: { pixels: fitImages(b, image, fit) } };
    };
    return await this.#sessions.use(
      `fit ${shape.join("x")}`,
      write,
      (session) => runOne(session, { feeds: { image: images }, fetch: "pixels", signal }),
    );
  }

  /** d / d image of what d / d pixels is given for. The map is linear: its adjoint needs no image. */
  async #pullBack(
    cotangent: Float32Tensor,
    { fit, shape, signal }: RunOptions & { readonly fit: PlaneFit; readonly shape: Shape },
  ): Promise<Float32Tensor> {
    if (isIdentityFit(fit)) return cotangent;
    const write = () => {
      const b = new Builder();
      const image = b.expand(b.scalar(0, "float32"), shape);
      const pixels = fitImages(b, image, fit);
      const arriving = b.input("cotangent", pixels);
      const [result] = gradient(b, [{ value: pixels, cotangent: arriving }], [image]);
      if (result === undefined) throw new TypeError("The fit has no gradient");
      return { b, outputs: { gradient: result } };
    };
    return await this.#sessions.use(
      `fit adjoint ${shape.join("x")}`,
      write,
      (session) => runOne(session, { feeds: { cotangent }, fetch: "gradient", signal }),
    );
  }

  async #run(
    pixels: Float32Tensor,
    { texts, gradient: wanted, signal }: RunOptions & {
      readonly texts: Float32Tensor | undefined;
      readonly gradient: boolean;
    },
  ): Promise<Scored> {
    const { shape } = pixels;
    // The runtime's optimizer takes time with the square of what a branch reads from outside: graphs that it is to
    // optimize have no branch, and the score alone is a graph of its own.
    const isApart = this.#definition.isForeign === true;
    const write = () => {
      const b = new Builder({ differentiable: wanted || !isApart });
      const input = b.input("pixels", { dtype: "float32", shape });
      const text = texts && b.input("text", { dtype: "float32", shape: texts.shape });
      const score = this.#definition.score(b, input, text);
      const back = (into: Builder) => {
        // Scores do not depend on one another's images, so one product with ones gives each its own gradient.
        const cotangent = into.fill(1, { dtype: "float32", shape: score.shape });
        return gradient(b, [{ value: score, cotangent }], [input], { unreached: "zero", into });
      };
      // One graph for both, so that weights are held once: the gradient's nodes run only where it is wanted.
      const [result] = isApart
        ? (wanted ? back(b) : [])
        : b.either(b.input("wanted", { dtype: "bool", shape: [] }), {
          yes: back,
          no: (into) => [into.expand(into.scalar(0, "float32"), shape)],
        });
      const outputs: Record<string, Value> = { score };
      if (result !== undefined) outputs["gradient"] = result;
      // With a recipe there is one size, and few numbers of images.
      return { b, outputs, isModel: this.#definition.recipe !== undefined };
    };
    const flag = { dtype: "bool", shape: [], data: Uint8Array.of(wanted ? 1 : 0) } as const;
    const feeds = {
      pixels,
      ...(!isApart && { wanted: flag }),
      ...(texts !== undefined && { text: texts }),
    };
    const fetches = wanted ? ["score", "gradient"] : ["score"];
    return await this.#sessions.use(
      `${this.info.name} ${shape.join("x")}${isApart && !wanted ? ", score alone" : ""}`,
      write,
      async (session) => {
        const { score, gradient } = await session.run(feeds, fetches, { signal });
        if (score?.dtype !== "float32") throw new TypeError("Reward graph gives no float32 score");
        return { score, ...(gradient?.dtype === "float32" ? { gradient } : {}) };
      },
    );
  }
}

async function runOne(
  session: Session,
  { feeds, fetch, signal }: RunOptions & {
    readonly feeds: Readonly<Record<string, Feed>>;
    readonly fetch: string;
  },
): Promise<Float32Tensor> {
  const { [fetch]: result } = await session.run(feeds, [fetch], { signal });
  if (result?.dtype !== "float32") throw new TypeError(`Graph gives no float32 "${fetch}"`);
  return result;
}

/** Pixels in [0, 1] of images rounded to 8 bits and fitted in integers. */
function referencePixels(
  { data, shape }: Images,
  fit: PlaneFit,
  resizer?: Resizer,
): Float32Tensor {
  const [batch = 0, , height = 0, width = 0] = shape;
  const size = 3 * height * width;
  const [rows, columns] = [fit.rows.size, fit.columns.size];
  const pixels = new Float32Array(batch * 3 * rows * columns);
  for (let i = 0; i < batch; i++) {
    // Rounded as (255 x) in float32, so that halves fall as they do in Python. A loop: `from` takes ten times as long.
    const image = new Uint8ClampedArray(size);
    for (let at = 0; at < size; at++) image[at] = Math.fround(255 * (data[i * size + at] ?? 0));
    const fitted = fitUint8({ height, width, data: new Uint8Array(image.buffer) }, fit, resizer);
    pixels.set(Float32Array.from(fitted.data, (v) => v / 255), i * fitted.data.length);
  }
  return float32(pixels, [batch, 3, rows, columns]);
}

const largestPowerOfTwo = (n: number) => 2 ** Math.floor(Math.log2(n));
