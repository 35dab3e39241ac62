import { type Builder, type Shape, type Value } from "../../autodiff/mod.ts";
import { WeightScope } from "../mod.ts";

/** Every weight of a network by its name in the state dict. */
export type WeightShapes = ReadonlyMap<string, Shape>;

/** A state dict that has whatever is asked for, and remembers what was. */
export class RecordingScope extends WeightScope {
  readonly #shapes: Map<string, Shape>;
  readonly #lacks: RegExp;

  constructor(
    b: Builder,
    { shapes, lacks, prefix = "" }: {
      readonly shapes: Map<string, Shape>;
      /** Names that the network does not have where others of its kind do. */
      readonly lacks: RegExp;
      readonly prefix?: string;
    },
  ) {
    super(b, { has: () => true, get: unread }, { prefix });
    this.#shapes = shapes;
    this.#lacks = lacks;
  }

  override at(name: string): WeightScope {
    return new RecordingScope(this.b, {
      shapes: this.#shapes,
      lacks: this.#lacks,
      prefix: this.path(name),
    });
  }

  override has(name: string): boolean {
    return !this.#lacks.test(this.path(name));
  }

  protected override stored(name: string, shape: Shape, as: Shape = shape): Value {
    const path = this.path(name);
    this.#shapes.set(path, shape);
    return this.b.weight(path, { dtype: "float32", shape: as }, { file: path, offset: 0 });
  }

  override rows(name: string, shape: Shape, rows: { start: number; end: number }): Value {
    return this.b.slice(this.get(name, shape), { axis: 0, ...rows });
  }

  override grid(
    name: string,
    { height, width, channels }: { height: number; width: number; channels: number },
    { rows, columns }: { rows: readonly [number, number]; columns: readonly [number, number] },
  ): Value {
    const whole = this.get(name, [1, height * width, channels]);
    const count = (rows[1] - rows[0]) * (columns[1] - columns[0]);
    return this.b.slice(whole, { axis: 1, start: 0, end: count });
  }
}

function unread(name: string): never {
  throw new RangeError(`Weight "${name}" was read from a model that is not there`);
}
