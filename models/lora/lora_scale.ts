import { z } from "zod";
import { checkValue, cut } from "../../base/mod.ts";
import { LoraError } from "./lora_error.ts";

/** What PEFT's configuration says of one module's adapter. */
export interface ModuleScale {
  readonly rank: number;
  readonly alpha: number;
  /** The factor of the product. */
  readonly scale: number;
}

/** PEFT's configuration of the adapter of one network: ranks and alphas by modules' names. */
export type ScaleRule = (module: string) => ModuleScale;

const numbers = z.record(z.string(), z.number().positive()).nullish();

/** Ways to initialise an adapter that leave the model's own weights as they were. */
const HARMLESS = ["gaussian", "eva", "orthogonal", "mica", "default"];

/** Fields that decide nothing once an adapter is trained. */
const INERT = new Set([
  ...["task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path"],
  ...["revision", "inference_mode", "target_modules", "exclude_modules", "lora_dropout"],
  ...["fan_in_fan_out", "layers_to_transform", "layers_pattern", "megatron_core", "use_dora"],
  ...["loftq_config", "eva_config", "corda_config", "lora_ga_config", "qalora_group_size"],
  ...["lora_bias", "ensure_weight_tying", "modules_to_save", "runtime_config", "rank_dropout"],
  ...["module_dropout", "use_effective_conv2d", "decompose_both", "decompose_factor"],
  ...["rank_dropout_scale", "init_weights", "bias"],
]);

const schema = z.looseObject({
  peft_type: z.enum(["LORA", "LOHA", "LOKR"], "LORA, LOHA or LOKR").nullish(),
  r: z.int("a whole number").positive().nullish(),
  lora_alpha: z.number("a number").positive("a number above 0").nullish(),
  alpha: z.number("a number").positive("a number above 0").nullish(),
  use_rslora: z.boolean("true or false").nullish(),
  rank_pattern: numbers,
  alpha_pattern: numbers,
  init_lora_weights: z.union([z.boolean(), z.enum(HARMLESS)], {
    error: "true, gaussian or another that leaves the model's weights as they are",
  }).nullish(),
  bias: z.literal("none", "none").nullish(),
});

/**
 * The rule in a PEFT configuration, from `adapter_config.json` or from diffusers' metadata. Throws `LoraError` naming
 * `path` and the field for what is not done here: other kinds of adapters, initialisations that changed the model.
 */
export function scaleRule(config: Readonly<Record<string, unknown>>, path: string): ScaleRule {
  const checked = checkValue(schema, config);
  if (checked.fault !== undefined) {
    const { path: names, message } = checked.fault;
    throw new LoraError(path, `"${names.join(".")}" ${message}`);
  }
  const known = new Set([...Object.keys(schema.shape), ...INERT]);
  for (const [field, value] of Object.entries(config)) {
    if (known.has(field) || isNothing(value)) continue;
    throw new LoraError(path, `"${field}" is ${JSON.stringify(value)}, which is not done here`);
  }
  const { r, lora_alpha, alpha: plain, use_rslora, rank_pattern, alpha_pattern } = checked.data;
  const patterns = new PatternReader(path);
  const ranks = patterns.matcher(rank_pattern ?? {});
  const alphas = patterns.matcher(alpha_pattern ?? {});
  return (module) => {
    const rank = ranks(module) ?? r ?? 8;
    const alpha = alphas(module) ?? lora_alpha ?? plain ?? 8;
    const scale = use_rslora ? alpha / Math.sqrt(rank) : alpha / rank;
    return { rank, alpha, scale };
  };
}

function isNothing(value: unknown): boolean {
  return value === null || value === undefined || value === false ||
    ["[]", "{}", '""'].includes(JSON.stringify(value));
}

/** Longest pattern, and most repetitions in one: what a stranger writes must not take long to match. */
const [MAX_PATTERN, MAX_REPEATS] = [256, 3];

/**
 * Most names of one field; most expressions of a configuration, and repetitions in all of them. One of three repetitions
 * takes up to 1.7 ms, and is matched with each of a model's modules, of which there are about a thousand.
 */
const [MAX_NAMES, MAX_EXPRESSIONS, MAX_ALL_REPEATS] = [4096, 64, 8];

/** The patterns of one configuration. */
class PatternReader {
  readonly #path: string;
  #expressions = 0;
  #repeats = 0;

  constructor(path: string) {
    this.#path = path;
  }

  /** PEFT's rule: the first key that matches the end of a module's name, from a dot on, as a regular expression. */
  matcher(pattern: Readonly<Record<string, number>>): (module: string) => number | undefined {
    const entries = Object.entries(pattern);
    if (entries.length > MAX_NAMES) {
      throw new LoraError(
        this.#path,
        `has ${entries.length} patterns of ranks or alphas, expected at most ${MAX_NAMES}`,
      );
    }
    const exact = new Map<string, number>();
    const rules: { readonly matches: (module: string) => boolean; readonly value: number }[] = [];
    for (const [key, value] of entries) {
      const plain = key.replace(/^\^/, "").replaceAll("\\.", ".");
      if (!/^[\w.]+$/.test(plain)) {
        const regex = this.#expression(key);
        rules.push({ matches: (module) => regex.test(module), value });
      } else if (key.startsWith("^")) {
        exact.set(plain, value);
      } else {
        const end = `.${plain}`;
        rules.push({ matches: (m) => m === plain || m.endsWith(end), value });
      }
    }
    return (module) => exact.get(module) ?? rules.find(({ matches }) => matches(module))?.value;
  }

  #expression(key: string): RegExp {
    const path = this.#path;
    const repeats = key.match(/[*+{?]/g)?.length ?? 0;
    if (key.length > MAX_PATTERN || repeats > MAX_REPEATS || /\)[*+{]/.test(key)) {
      throw new LoraError(
        path,
        `pattern ${JSON.stringify(cut(key, 80))} is not done here, expected a module's name`,
      );
    }
    this.#expressions++;
    this.#repeats += repeats;
    if (this.#expressions > MAX_EXPRESSIONS || this.#repeats > MAX_ALL_REPEATS) {
      throw new LoraError(
        path,
        `has more than ${MAX_EXPRESSIONS} patterns that are no names, or ${MAX_ALL_REPEATS} repetitions ` +
          "in them; expected modules' names",
      );
    }
    try {
      return new RegExp(`^(?:.*\\.)?(?:${key})$`);
    } catch (cause) {
      throw new LoraError(path, `pattern ${JSON.stringify(key)} is no regular expression`, {
        cause,
      });
    }
  }
}
