import type { DType, Shape, Tensor, TensorOf } from "../../autodiff/mod.ts";
import { cut } from "../../base/mod.ts";
import { toFloat32 } from "../weights/mod.ts";
import { familyOf, type KeyPart, REFUSED_KEYS, splitKey } from "./key_forms.ts";
import { LoraError } from "./lora_error.ts";
import {
  LORA_PARTS,
  type LoraPart,
  type LoraPartName,
  ModuleIndex,
  type Target,
} from "./lora_parts.ts";
import { type ScaleRule, scaleRule } from "./lora_scale.ts";
import { planChange, type PlannedChange } from "./_module_change.ts";
import type { Adapter, ModuleChange } from "./weight_change.ts";

/** An open file of tensors: its header in memory, its tensors on disk. */
export interface LoraSource {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, { readonly dtype: DType; readonly shape: Shape }>;
  readonly metadata: Readonly<Record<string, string>>;
  read(name: string): Promise<Tensor>;
}

/** What `adapter_config.json` says. */
export interface PeftConfig {
  readonly path: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** Adapters of a pipeline's networks. */
export type Adapters = Partial<Readonly<Record<LoraPartName, Adapter>>>;

/** Where diffusers keeps adapters' PEFT configurations in a safetensors header, as JSON. */
export const METADATA_KEY = "lora_adapter_metadata";

/** Most tensors of a file, and bytes of all of them in float32. */
const [MAX_TENSORS, MAX_BYTES] = [100_000, 2 ** 34];

/**
 * What a LoRA file changes of a pipeline's networks, in any form of the table in docs/lora.md. The scale comes from
 * kohya's `.alpha` tensors, else from `config` (PEFT keeps it in a file of its own) or diffusers' metadata, else it is 1.
 * Every name and shape is checked before a tensor is read.
 *
 * Throws `LoraError` naming the file and the tensor: for one that belongs to no module here, for kinds of adapters that
 * are not done, by their names, a half without its other half, and shapes that do not fit.
 */
export async function readAdapters(
  source: LoraSource,
  { parts, config }: {
    readonly parts: readonly LoraPart[];
    readonly config?: PeftConfig | undefined;
  },
): Promise<Adapters> {
  checkSizes(source);
  const found = assign(source, parts);
  const rules = config === undefined
    ? rulesIn(source, parts)
    : oneRule(scaleRule(config.fields, config.path));
  const plans: { readonly part: LoraPartName; readonly plan: PlannedChange }[] = [];
  for (const { target, keys } of found) {
    plans.push({
      part: target.part.name,
      plan: await planChange(tensorsOf(source, { target, keys, rules })),
    });
  }
  const out: Partial<
    Record<LoraPartName, { changes: ModuleChange[]; tensors: Record<string, TensorOf<"float32">> }>
  > = {};
  // In the order of the model, whatever that of the file.
  for (const { name, layers } of parts) {
    const order = new Map(layers.map((layer, i) => [layer.name, i]));
    const own = plans.filter(({ part }) => part === name).map(({ plan }) => plan).sort((a, b) =>
      (order.get(a.change.layer.name) ?? 0) - (order.get(b.change.layer.name) ?? 0)
    );
    if (own.length === 0) continue;
    const tensors: Record<string, TensorOf<"float32">> = {};
    for (const plan of own) Object.assign(tensors, await plan.tensors());
    out[name] = { changes: own.map(({ change }) => change), tensors };
  }
  return out;
}

function checkSizes({ path, tensors }: LoraSource): void {
  if (tensors.size > MAX_TENSORS) {
    throw new LoraError(path, `holds ${tensors.size} tensors, expected at most ${MAX_TENSORS}`);
  }
  let bytes = 0;
  for (const { shape } of tensors.values()) bytes += 4 * shape.reduce((n, d) => n * d, 1);
  if (!(bytes <= MAX_BYTES)) {
    throw new LoraError(path, `takes ${bytes} bytes in float32, expected at most ${MAX_BYTES}`);
  }
}

interface FoundModule {
  readonly target: Target;
  /** The file's tensor for each part. */
  readonly keys: Map<KeyPart, string>;
}

/** The file's tensors by module. */
function assign({ path, tensors }: LoraSource, parts: readonly LoraPart[]): readonly FoundModule[] {
  const index = new ModuleIndex(parts);
  const found = new Map<unknown, { own?: FoundModule; other?: FoundModule }>();
  // First of all: an alpha of such a module would be told to belong to none.
  for (const key of tensors.keys()) {
    const refused = REFUSED_KEYS.find(({ key: pattern }) => pattern.test(key));
    if (refused !== undefined) {
      throw new LoraError(path, `tensor "${show(key)}" is ${refused.what}, which is not done here`);
    }
  }
  for (const key of tensors.keys()) {
    const split = splitKey(key);
    if (split === undefined) throw new LoraError(path, `tensor "${show(key)}" ${noForm(key)}`);
    const targets = index.find(split.module);
    if (targets.length === 0) {
      throw new LoraError(path, `tensor "${show(key)}" ${noModule(split.module, parts)}`);
    }
    for (const target of targets) {
      const both = found.get(target.layer) ?? {};
      found.set(target.layer, both);
      const module = (target.isOwn ? both.own : both.other) ?? { target, keys: new Map() };
      if (target.isOwn) both.own = module;
      else both.other = module;
      const before = module.keys.get(split.part);
      if (before !== undefined) {
        const shown = `"${show(before)}" and "${show(key)}"`;
        throw new LoraError(path, `tensors ${shown} are the same one's`);
      }
      module.keys.set(split.part, key);
    }
  }
  const holdsTensors = ({ keys }: FoundModule) => [...keys.keys()].some((p) => p !== "alpha");
  // Of a module under both of its layouts' names, diffusers takes the one under its own: files hold the other again, as
  // Z-Image's of some trainers do with the fused layer.
  const modules = [...found.values()].flatMap(({ own, other }) => {
    if (own === undefined || other === undefined) return own ?? other ?? [];
    return holdsTensors(own)
      ? own
      : { target: other.target, keys: new Map([...other.keys, ...own.keys]) };
  }).filter(holdsTensors);
  if (modules.length === 0) throw new LoraError(path, "holds no LoRA tensor");
  return modules;
}

const show = (key: string) => cut(key, 120);

function noForm(key: string): string {
  return /\.(?:weight|bias)$/.test(key)
    ? "is a weight in full, as checkpoints hold it, expected changes of weights"
    : "ends as nothing that LoRA files hold";
}

function noModule(module: string, parts: readonly LoraPart[]): string {
  const here = parts.map(({ name }) => LORA_PARTS[name].title).join(", ");
  const family = familyOf(module);
  const hint = family === undefined ? "" : `; it looks like ${family}'s`;
  return `names no module of this model's ${here}${hint}`;
}

type Rules = (part: LoraPartName) => ScaleRule | undefined;

const oneRule = (rule: ScaleRule): Rules => () => rule;

/** The rules in diffusers' metadata: fields "unet.r", "text_encoder.lora_alpha" and so on. */
function rulesIn({ path, metadata }: LoraSource, parts: readonly LoraPart[]): Rules {
  const text = metadata[METADATA_KEY];
  if (text === undefined) return () => undefined;
  let config: unknown;
  try {
    config = JSON.parse(text);
  } catch (cause) {
    throw new LoraError(path, `metadata "${METADATA_KEY}" is not valid JSON`, { cause });
  }
  if (typeof config !== "object" || config === null) {
    throw new LoraError(path, `metadata "${METADATA_KEY}" is no object`);
  }
  const rules = new Map<LoraPartName, ScaleRule>();
  for (const { name } of parts) {
    const own = Object.entries(config).flatMap(([field, value]) =>
      field.startsWith(`${name}.`) ? [[field.slice(name.length + 1), value] as const] : []
    );
    if (own.length > 0) rules.set(name, scaleRule(Object.fromEntries(own), path));
  }
  return (part) => rules.get(part);
}

function tensorsOf(
  source: LoraSource,
  { target: { part, layer, rows }, keys, rules }: FoundModule & { readonly rules: Rules },
) {
  const { path } = source;
  const read = async (kind: KeyPart) => {
    const key = keys.get(kind) ?? "";
    const tensor = await source.read(key);
    try {
      const values = toFloat32(tensor);
      const bad = values.data.findIndex((v) => !Number.isFinite(v));
      if (bad < 0) return values;
      throw new LoraError(path, `tensor "${show(key)}" holds ${values.data[bad]}`);
    } catch (cause) {
      if (cause instanceof LoraError) throw cause;
      throw new LoraError(
        path,
        `tensor "${show(key)}" is ${tensor.dtype}, expected a float dtype`,
        { cause },
      );
    }
  };
  return {
    layer,
    rows,
    scale: rules(part.name)?.(layer.name),
    shape: (kind: KeyPart) => {
      const key = keys.get(kind);
      return key === undefined ? undefined : source.tensors.get(key)?.shape;
    },
    read,
    number: async (kind: KeyPart) => {
      const key = keys.get(kind) ?? "";
      const { shape } = source.tensors.get(key) ?? { shape: [] };
      if (shape.reduce((n, d) => n * d, 1) !== 1) {
        throw new LoraError(path, `tensor "${show(key)}" is [${shape}], expected one number`);
      }
      const tensor = await source.read(key);
      const [value = NaN] = tensor.dtype === "int64" || tensor.dtype === "int32"
        ? [Number(tensor.data[0])]
        : toFloat32(tensor).data;
      return value;
    },
    fail: (detail: string): never => {
      throw new LoraError(path, detail);
    },
  };
}
