import { float32, type Shape, sizeOf, type TensorOf } from "../../autodiff/mod.ts";
import { type AdaptableLayer, MAX_RANK, pairShapes } from "./adapter.ts";
import type { KeyPart } from "./key_forms.ts";
import type { ModuleScale } from "./lora_scale.ts";
import { coreTimes, multiply, rowsOf, transposed } from "./_products.ts";
import { changeShapes, type Delta, matrixOf, type ModuleChange } from "./weight_change.ts";

type Float32 = TensorOf<"float32">;

/** The tensors that a file has of one module. */
export interface ModuleTensors {
  readonly layer: AdaptableLayer;
  /** The rows of the file's tensors that are the module's, where the file fuses it with others. */
  readonly rows?: readonly [number, number] | undefined;
  /** The shape of a tensor, `undefined` where the file has none. */
  shape(part: KeyPart): Shape | undefined;
  /** The only number in a tensor. */
  number(part: KeyPart): Promise<number>;
  /** A tensor of the file in float32. */
  read(part: KeyPart): Promise<Float32>;
  /** What PEFT's configuration says, where there is one. */
  readonly scale: ModuleScale | undefined;
  fail(detail: string): never;
}

/** A change, and how its tensors are read: nothing is read before every module of the file was found to fit. */
export interface PlannedChange {
  readonly change: ModuleChange;
  tensors(): Promise<Record<string, Float32>>;
}

/** Finds out what a module's tensors mean. Every shape is checked against the layer's; of data only alphas are read. */
export async function planChange(m: ModuleTensors): Promise<PlannedChange> {
  const { layer } = m;
  const planned = await planDelta(m);
  const magnitude = planMagnitude(m);
  const added = biasParts(m);
  const change: ModuleChange = {
    layer,
    ...(planned && { delta: planned.delta }),
    ...(magnitude && { magnitude: magnitude.axis }),
    ...(added.length > 0 && { bias: true }),
  };
  if (planned === undefined && magnitude !== undefined) {
    m.fail(`"${layer.name}" has a DoRA magnitude alone, expected a change beside it`);
  }
  const shapes = new Map(changeShapes(change).map(({ name, shape }) => [name, shape]));
  return {
    change,
    async tensors() {
      const found: Record<string, Float32> = await planned?.read() ?? {};
      if (magnitude !== undefined) found.lora_magnitude_vector = await m.read(magnitude.part);
      if (added.length > 0) found.diff_b = await biasOf(m, added, planned?.scale ?? 1);
      return Object.fromEntries(
        Object.entries(found).map(([end, { data }]) => {
          const name = `${layer.name}.${end}`;
          return [name, float32(data, shapes.get(name) ?? [data.length])];
        }),
      );
    },
  };
}

interface PlannedDelta {
  readonly delta: Delta;
  /** The factor of the product, by which PEFT's bias of B is multiplied too. */
  readonly scale: number;
  /** The delta's tensors by the ends of their names. */
  read(): Promise<Record<string, Float32>>;
}

async function planDelta(m: ModuleTensors): Promise<PlannedDelta | undefined> {
  const has = (start: string) => ALL_PARTS.some((p) => p.startsWith(start) && m.shape(p));
  const kinds = [
    ...(["down", "up", "mid"] as const).some((p) => m.shape(p)) ? ["LoRA"] : [],
    ...has("hada_") ? ["LoHa"] : [],
    ...has("lokr_") ? ["LoKr"] : [],
    ...m.shape("diff") ? ["a full difference"] : [],
  ];
  if (kinds.length > 1) m.fail(`"${m.layer.name}" has ${kinds.join(" and ")}, expected one kind`);
  switch (kinds[0]) {
    case "LoRA":
      return await planProduct(m);
    case "LoHa":
      return await planHadamard(m);
    case "LoKr":
      return await planKronecker(m);
    case undefined:
      return undefined;
    default:
      return planDifference(m);
  }
}

const ALL_PARTS: readonly KeyPart[] = [
  ...["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"] as const,
  ...["lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b"] as const,
  "lokr_t2",
];

async function planProduct(m: ModuleTensors): Promise<PlannedDelta> {
  const { layer } = m;
  const [out, n] = matrixOf(layer);
  const down = need(m, "down", "lora_A");
  const mid = m.shape("mid");
  const up = need(m, "up", "lora_B");
  const rank = rankOf(m, mid?.[0] ?? down[0]);
  const [expectedDown = {}, expectedUp = {}] = pairShapes(layer, rank);
  const shown = (s: object) => "shape" in s ? `[${s.shape}]` : "";
  const fileRows = m.rows === undefined ? out : up[0] ?? 0;
  if (sizeOf(up) !== fileRows * rank || fileRows < (m.rows?.[1] ?? out)) {
    m.fail(`lora_B of "${layer.name}" is [${up}], expected ${shown(expectedUp)}${madeFor(m)}`);
  }
  const [r = 0, s = 0, ...kernel] = mid ?? [];
  const k = sizeOf(kernel);
  if (mid === undefined ? sizeOf(down) !== rank * n : s * n !== sizeOf(down) * k) {
    m.fail(`lora_A of "${layer.name}" is [${down}], expected ${shown(expectedDown)}${madeFor(m)}`);
  }
  const scale = await scaleOf(m, down[0] ?? rank);
  return {
    delta: { kind: "product", rank, alpha: scale * rank },
    scale,
    async read() {
      const a = await m.read("down");
      const b = await m.read("up");
      return {
        "lora_A.weight": mid === undefined
          ? a
          : coreTimes(await m.read("mid"), a, { r, s, k, width: n / k }),
        "lora_B.weight": m.rows === undefined ? b : rowsOf(b, m.rows, fileRows),
      };
    },
  };
}

/** (A1 B1) ∘ (A2 B2); with a core t, [r, r, kernel], of A [r, out] and B [r, in]: Tucker's form. */
async function planHadamard(m: ModuleTensors): Promise<PlannedDelta> {
  const { layer } = m;
  const [out, n] = matrixOf(layer);
  const half = (i: 1 | 2) => {
    const [a, b, t] = [`hada_w${i}_a`, `hada_w${i}_b`, `hada_t${i}`] as const;
    const [left, right] = [need(m, a, a), need(m, b, b)];
    const core = m.shape(t);
    const rank = rankOf(m, right[0]);
    const k = sizeOf(core?.slice(2) ?? []);
    const width = sizeOf(right.slice(1));
    const fits = core === undefined
      ? sizeOf(left) === out * rank && width === n
      : left[0] === rank && sizeOf(left) === out * rank && width * k === n && core[0] === rank &&
        core[1] === rank;
    if (!fits) {
      m.fail(
        `LoHa's ${a} [${left}] and ${b} [${right}] on "${layer.name}" do not make [${layer.shape}]` +
          madeFor(m),
      );
    }
    const read = async (): Promise<[Float32, Float32]> => {
      const [x, y] = [await m.read(a), await m.read(b)];
      if (core === undefined) return [x, y];
      return [
        transposed(x, { m: rank, n: out }),
        coreTimes(await m.read(t), y, { r: rank, s: rank, k, width }),
      ];
    };
    return { rank, read };
  };
  const [first, second] = [half(1), half(2)];
  const scale = await scaleOf(m, first.rank);
  return {
    delta: { kind: "hadamard", ranks: [first.rank, second.rank], scale },
    scale,
    async read() {
      const [a1, b1] = await first.read();
      const [a2, b2] = await second.read();
      return { hada_w1_a: a1, hada_w1_b: b1, hada_w2_a: a2, hada_w2_b: b2 };
    },
  };
}

async function planKronecker(m: ModuleTensors): Promise<PlannedDelta> {
  const { layer } = m;
  const [out, n] = matrixOf(layer);
  const factor = (i: 1 | 2) => {
    const [whole, a, b] = [`lokr_w${i}`, `lokr_w${i}_a`, `lokr_w${i}_b`] as const;
    const shape = m.shape(whole);
    if (shape !== undefined) {
      const [rows = 0] = shape;
      return { rows, columns: sizeOf(shape) / rows, rank: undefined, read: () => m.read(whole) };
    }
    const [left, right] = [need(m, a, a), need(m, b, b)];
    const core = i === 2 ? m.shape("lokr_t2") : undefined;
    const rank = rankOf(m, right[0]);
    const k = sizeOf(core?.slice(2) ?? []);
    const rows = sizeOf(left) / rank;
    const width = sizeOf(right.slice(1));
    if (
      core === undefined
        ? left.at(-1) !== rank
        : left[0] !== rank || core[0] !== rank || core[1] !== rank
    ) {
      m.fail(`LoKr's ${a} [${left}] and ${b} [${right}] on "${layer.name}" do not fit each other`);
    }
    const read = async () => {
      const [x, y] = [await m.read(a), await m.read(b)];
      if (core === undefined) return multiply(x, y, { m: rows, k: rank, n: width });
      const inner = coreTimes(await m.read("lokr_t2"), y, { r: rank, s: rank, k, width });
      return multiply(transposed(x, { m: rank, n: rows }), inner, {
        m: rows,
        k: rank,
        n: width * k,
      });
    };
    return { rows, columns: width * k, rank, read };
  };
  const [first, second] = [factor(1), factor(2)];
  const rows = m.rows ?? [0, out];
  const fileRows = first.rows * second.rows;
  const fits = m.rows === undefined ? fileRows === out : fileRows >= rows[1];
  if (!fits || first.columns * second.columns !== n) {
    const wanted = m.rows === undefined
      ? `[${layer.shape}]`
      : `rows ${rows[0]} to ${rows[1]} of [rows,${n}], with which the file fuses it`;
    m.fail(
      `LoKr's factors [${first.rows},${first.columns}] and [${second.rows},${second.columns}] on ` +
        `"${layer.name}" do not make ${wanted}${madeFor(m)}`,
    );
  }
  // Rows of the first factor that the module's rows come from.
  const start = Math.floor(rows[0] / second.rows);
  const left = [start, Math.ceil(rows[1] / second.rows)] as const;
  const rank = second.rank ?? first.rank;
  // LyCORIS' factors that are whole are not scaled, whatever alpha says; PEFT scales always.
  const scale = m.scale?.scale ?? (rank === undefined ? 1 : await scaleOf(m, rank));
  return {
    delta: {
      kind: "kronecker",
      left: [left[1] - start, first.columns],
      right: [second.rows, second.columns],
      skip: rows[0] - start * second.rows,
      scale,
    },
    scale,
    read: async () => ({
      lokr_w1: rowsOf(await first.read(), left, first.rows),
      lokr_w2: await second.read(),
    }),
  };
}

function planDifference(m: ModuleTensors): PlannedDelta {
  const { layer } = m;
  const shape = need(m, "diff", "diff");
  const fileRows = m.rows === undefined ? layer.shape[0] ?? 1 : shape[0] ?? 0;
  const [out, n] = matrixOf(layer);
  if (sizeOf(shape) !== fileRows * n || fileRows < (m.rows?.[1] ?? out)) {
    m.fail(`diff of "${layer.name}" is [${shape}], expected [${layer.shape}]${madeFor(m)}`);
  }
  return {
    delta: { kind: "difference" },
    scale: 1,
    read: async () => {
      const diff = await m.read("diff");
      return { diff: m.rows === undefined ? diff : rowsOf(diff, m.rows, fileRows) };
    },
  };
}

/** PEFT's magnitudes are of rows; LyCORIS' say by their shape whether they are of rows or of inputs. */
function planMagnitude(
  m: ModuleTensors,
): { readonly part: KeyPart; readonly axis: "out" | "in" } | undefined {
  const part = (["magnitude", "doraScale"] as const).find((p) => m.shape(p) !== undefined);
  if (part === undefined) return undefined;
  const shape = m.shape(part) ?? [];
  const [out = 1, width = 1] = m.layer.shape;
  const size = sizeOf(shape);
  const isIn = part === "doraScale" && shape.length > 1 && shape[0] === 1 && shape[1] === width &&
    !(out === 1 && width === 1);
  if (size !== (isIn ? width : out)) {
    m.fail(
      `DoRA's magnitude of "${m.layer.name}" is [${shape}], expected [${out}] or [1,${width}]` +
        madeFor(m),
    );
  }
  if (m.rows !== undefined) m.fail(`DoRA on "${m.layer.name}", which the file fuses, is not done`);
  return { part, axis: isIn ? "in" : "out" };
}

function biasParts(m: ModuleTensors): readonly ("diffBias" | "upBias")[] {
  const [out = 1] = m.layer.shape;
  return (["diffBias", "upBias"] as const).filter((part) => {
    const shape = m.shape(part);
    if (shape === undefined) return false;
    if (sizeOf(shape) === out && m.rows === undefined) return true;
    return m.fail(`bias of "${m.layer.name}" is [${shape}], expected [${out}]${madeFor(m)}`);
  });
}

async function biasOf(
  m: ModuleTensors,
  parts: readonly ("diffBias" | "upBias")[],
  scale: number,
): Promise<Float32> {
  const [out = 1] = m.layer.shape;
  const sum = new Float32Array(out);
  for (const part of parts) {
    const factor = part === "upBias" ? scale : 1;
    for (const [i, v] of (await m.read(part)).data.entries()) sum[i] = (sum[i] ?? 0) + factor * v;
  }
  return float32(sum, [out]);
}

function need(m: ModuleTensors, part: KeyPart, label: string): Shape {
  return m.shape(part) ??
    m.fail(`${label} of "${m.layer.name}" is missing, expected it beside the others`);
}

function rankOf(m: ModuleTensors, rank: number | undefined): number {
  if (rank !== undefined && rank >= 1 && rank <= MAX_RANK) return rank;
  return m.fail(`rank of "${m.layer.name}" is ${rank ?? 0}, expected 1 to ${MAX_RANK}`);
}

/** The factor of a product of that rank: as alpha beside it says, else PEFT's configuration, else 1. */
async function scaleOf(m: ModuleTensors, rank: number): Promise<number> {
  if (m.shape("alpha") !== undefined) {
    const alpha = await m.number("alpha");
    if (Number.isFinite(alpha)) return alpha / rank;
    m.fail(`alpha of "${m.layer.name}" is ${alpha}, expected a number`);
  }
  const { scale } = m;
  if (scale === undefined) return 1;
  if (scale.rank === rank) return scale.scale;
  return m.fail(
    `rank of "${m.layer.name}" is ${rank}, expected ${scale.rank} as the adapter's configuration says`,
  );
}

const madeFor = ({ layer }: ModuleTensors) =>
  `: it was made for a model whose ${layer.name.split(".").at(-1)} has another size`;
