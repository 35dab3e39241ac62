import assert from "node:assert/strict";
import { join } from "node:path";
import { float32, type Tensor } from "../../autodiff/mod.ts";
import { loadLora, type LoraPart } from "../../models/lora/mod.ts";
import { writeSafetensors } from "../../models/weights/mod.ts";
import { attackWithFiles, type Outcome } from "./_resident.ts";

const NAME = "mid_block.attentions.0.proj_in";
const PARTS: readonly LoraPart[] = [{
  name: "unet",
  layers: [{ name: NAME, shape: [8, 8, 1, 1], aliases: [] }],
}];

/** Loads LoRA files that strangers could have made, `count` times in turn. */
export function hostileLoras(count: number): Promise<Outcome> {
  return attackWithFiles(attemptsIn, count);
}

async function attemptsIn(folder: string): Promise<(() => Promise<void>)[]> {
  const attempts: (() => Promise<void>)[] = [];
  const refused = (message: RegExp, path: string) =>
    attempts.push(async () => {
      await assert.rejects(loadLora(join(folder, path), PARTS), (error) => {
        assert.ok(error instanceof Error);
        assert.match(error.message, message);
        assert.ok(error.message.length < 2000, `${error.message.length} characters`);
        return true;
      });
    });
  const zeros = (...shape: number[]) => float32(new Float32Array(product(shape)), shape);
  const file = async (
    name: string,
    tensors: Record<string, Tensor>,
    metadata: Record<string, string> = {},
  ) => {
    await Deno.mkdir(join(folder, name, ".."), { recursive: true });
    await writeSafetensors(join(folder, name), tensors, metadata);
  };
  const key = `unet.${NAME}`;
  const down = { [`${key}.lora_A.weight`]: zeros(2, 8, 1, 1) };
  const good = { ...down, [`${key}.lora_B.weight`]: zeros(8, 2, 1, 1) };

  // Sizes that lie: by the header, by the rank, by factors whose product is huge.
  await header("header.safetensors", { [`${key}.lora_A.weight`]: [2 ** 40, 8] }, 0);
  refused(/tensor .* has 0 bytes, expected/, "header.safetensors");
  await header("zero.safetensors", {
    [`${key}.lora_A.weight`]: [0, 8],
    [`${key}.lora_B.weight`]: [8, 0],
  }, 0);
  refused(/rank of ".*proj_in" is 0, expected 1 to 4096/, "zero.safetensors");
  await header(
    "empty.safetensors",
    { [`${key}.lora_A.weight`]: [2 ** 40, 0], [`${key}.lora_B.weight`]: [8, 0, 2 ** 40] },
    0,
  );
  refused(/rank of ".*proj_in" is 1099511627776, expected 1 to 4096/, "empty.safetensors");
  await file("rank.safetensors", {
    [`${key}.lora_A.weight`]: zeros(5000, 8),
    [`${key}.lora_B.weight`]: zeros(8, 5000),
  });
  refused(/rank of ".*proj_in" is 5000, expected 1 to 4096/, "rank.safetensors");
  await file("kron.safetensors", {
    [`${key}.lokr_w1`]: zeros(100, 100),
    [`${key}.lokr_w2`]: zeros(200, 200),
  });
  refused(
    /LoKr's factors \[100,100\] and \[200,200\] on .* do not make \[8,8,1,1\]/,
    "kron.safetensors",
  );
  await file("core.safetensors", {
    ...Object.fromEntries(
      ["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"].map((
        end,
      ) => [`${key}.${end}`, zeros(4, 8)]),
    ),
    [`${key}.hada_t1`]: zeros(4, 4, 64, 64),
  });
  refused(/LoHa's hada_w1_a .* do not make/, "core.safetensors");

  // Keys: very many, very long, the same module twice, those that mean prototypes.
  const many = Object.fromEntries(
    Array.from({ length: 100_001 }, (_, i) => [`unet.x${i}.alpha`, [] as number[]]),
  );
  await header("many.safetensors", many, 4 * 100_001);
  refused(/holds 100001 tensors, expected at most 100000/, "many.safetensors");
  await header("notes.safetensors", { [`${"k".repeat(33 * 2 ** 20)}.alpha`]: [] }, 4);
  refused(/header length is \d+, expected at most 33554432/, "notes.safetensors");
  await header("long.safetensors", { [`${"k".repeat(2 ** 20)}.alpha`]: [] }, 4);
  refused(/names no module of this model's U-Net/, "long.safetensors");
  await file("twice.safetensors", {
    ...good,
    [`lora_unet_${NAME.replaceAll(".", "_")}.lora_down.weight`]: zeros(2, 8),
  });
  refused(/are the same one's/, "twice.safetensors");
  await file("proto.safetensors", {
    "__proto__.lora_A.weight": zeros(2, 8),
    "constructor.alpha": zeros(),
  });
  refused(/names no module of this model's U-Net/, "proto.safetensors");
  await file("half.safetensors", down);
  refused(/lora_B of ".*proj_in" is missing/, "half.safetensors");
  await file("nan.safetensors", { ...good, [`${key}.alpha`]: float32([NaN], []) });
  refused(/alpha of ".*proj_in" is NaN/, "nan.safetensors");
  await file("infinite.safetensors", {
    ...good,
    [`${key}.lora_A.weight`]: float32(new Float32Array(16).fill(Infinity), [2, 8]),
  });
  refused(/holds Infinity/, "infinite.safetensors");

  // Configurations beside and inside.
  const metadata = (value: unknown) => ({
    lora_adapter_metadata: typeof value === "string" ? value : JSON.stringify(value),
  });
  await file("deep.safetensors", good, metadata("[".repeat(100_000)));
  refused(/metadata "lora_adapter_metadata" is not valid JSON/, "deep.safetensors");
  await file(
    "regex.safetensors",
    good,
    metadata({ "unet.r": 2, "unet.rank_pattern": { "(.*a)*(.*a)*(.*a)*b": 2 } }),
  );
  refused(/pattern ".*" is not done here, expected a module's name/, "regex.safetensors");
  await file(
    "base.safetensors",
    good,
    metadata({ "unet.r": 2, "unet.init_lora_weights": "pissa" }),
  );
  refused(/"init_lora_weights" is "pissa", expected true/, "base.safetensors");
  await file("peft/adapter_model.safetensors", good);
  await Deno.writeTextFile(
    join(folder, "peft/adapter_config.json"),
    `{"a":"${"x".repeat(5 << 20)}"}`,
  );
  refused(/adapter_config\.json: .*too large/, "peft");

  // Pickles.
  const text = (value: string) => Uint8Array.from(value, (ch) => ch.charCodeAt(0));
  await Deno.writeFile(
    join(folder, "program.bin"),
    text("\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."),
  );
  refused(/program\.bin: .*global os\.system is refused/, "program.bin");
  await Deno.mkdir(join(folder, "none"));
  refused(/is a folder, expected one of/, "none");
  return attempts;

  /** A file of float32 tensors of the shapes given, and `bytes` of data. */
  async function header(name: string, shapes: Record<string, number[]>, bytes: number) {
    let at = 0;
    const entries = Object.fromEntries(
      Object.entries(shapes).map(([n, shape]) => {
        const size = shape.includes(0) ? 0 : Math.min(bytes - at, 4 * product(shape));
        return [n, { dtype: "F32", shape, data_offsets: [at, at += size] }];
      }),
    );
    const json = new TextEncoder().encode(JSON.stringify(entries));
    const whole = new Uint8Array(8 + json.length + bytes);
    new DataView(whole.buffer).setBigUint64(0, BigInt(json.length), true);
    whole.set(json, 8);
    await Deno.writeFile(join(folder, name), whole);
  }
}

function product(shape: readonly number[]): number {
  return shape.reduce((n, d) => n * d, 1);
}
