import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { decodeImage, loadReward, parseRewardConfig } from "../../rewards/mod.ts";
import { attackWithFiles, type Outcome } from "./_resident.ts";

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));

/** Loads rewards from `count` bad files in this process. Each file is one that a stranger could have made. */
export function hostileFiles(count: number): Promise<Outcome> {
  return attackWithFiles(attemptsIn, count);
}

async function attemptsIn(folder: string): Promise<(() => Promise<void>)[]> {
  const write = async (name: string, bytes: Uint8Array) => {
    await Deno.mkdir(join(folder, name, ".."), { recursive: true });
    await Deno.writeFile(join(folder, name), bytes);
  };
  const refused = (message: RegExp, record: Record<string, unknown>) => async () => {
    const load = async () => {
      const reward = await loadReward(parseRewardConfig(record), {
        baseDir: folder,
        cacheDir: join(folder, "cache"),
      });
      await reward.dispose();
    };
    await assert.rejects(load(), message);
  };
  const text = (value: string) => Uint8Array.from(value, (ch) => ch.charCodeAt(0));

  // Weights of a CLIP, each wrong in its own way.
  const golden = path("../golden/rewards/clip_gelu");
  const weights = await Deno.readFile(`${golden}/model.safetensors`);
  const headerLength = Number(new DataView(weights.buffer).getBigUint64(0, true));
  const header = new TextDecoder().decode(weights.subarray(8, 8 + headerLength));
  const clip = async (name: string, change: Uint8Array) => {
    for (const file of ["config.json", "vocab.json", "merges.txt", "tokenizer_config.json"]) {
      await write(`${name}/${file}`, await Deno.readFile(`${golden}/${file}`));
    }
    await write(`${name}/model.safetensors`, change);
  };
  const withHeader = (json: string) => {
    const bytes = new Uint8Array(8 + json.length + weights.length - 8 - headerLength);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
    bytes.set(text(json), 8);
    bytes.set(weights.subarray(8 + headerLength), 8 + json.length);
    return bytes;
  };
  await clip("truncated", weights.subarray(0, 20_000));
  await clip(
    "overlap",
    withHeader(header.replace(/"data_offsets":\[(\d+),(\d+)\]/, '"data_offsets":[4,$2]')),
  );
  const lying = weights.slice();
  new DataView(lying.buffer).setBigUint64(0, 2n ** 63n, true);
  await clip("lying", lying);
  await clip("shape", withHeader(header.replace(/"shape":\[\d+/, '"shape":[99999999')));

  // Pickles that would run programs, compressed entries, scripts.
  const pickle = "\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.";
  await write("program.pt", text(pickle));
  await write("program_zip.pt", storedZip("archive/data.pkl", text(pickle), 0));
  await write("bomb.pt", storedZip("archive/data.pkl", new Uint8Array(1000), 8));
  const head = (file: string) => ({ kind: "aesthetic", weights: golden, head: file });

  // ONNX files; external data that leads elsewhere.
  const onnx = await Deno.readFile(path("../autodiff/models/vit_opset18.onnx"));
  const located = (location: string) => {
    // The same length, so that the lengths around it stay true.
    const bytes = onnx.slice();
    const old = "vit_opset18.onnx.data";
    const at = text(location.padEnd(old.length, "x"));
    let i = indexOf(bytes, text(old), 0);
    while (i >= 0) {
      bytes.set(at, i);
      i = indexOf(bytes, text(old), i + 1);
    }
    return bytes;
  };
  await write("onnx/damaged.onnx", onnx.subarray(0, 5000));
  await write("onnx/outside.onnx", located("../../../etc/passwd"));
  await write("onnx/absolute.onnx", located("/etc/passwd"));
  await write("onnx/link.onnx", located("link.data"));
  await Deno.symlink("/etc/passwd", join(folder, "onnx", "link.data".padEnd(21, "x")));
  const record = (name: string) => ({ kind: "onnx", weights: `onnx/${name}.onnx`, fit: "crop" });

  await write("huge.png", hugePng());
  const picture = async () => {
    await assert.rejects(
      decodeImage(join(folder, "huge.png")),
      /huge\.png is 100000x100000, expected at most 67108864 pixels$/,
    );
  };
  return [
    refused(/model\.safetensors: .*truncated/, { kind: "clip", weights: "truncated" }),
    refused(/model\.safetensors: tensor .*(overlaps|bytes, expected)/, {
      kind: "clip",
      weights: "overlap",
    }),
    refused(/header length is 9223372036854775808/, { kind: "clip", weights: "lying" }),
    refused(/model\.safetensors: tensor .* bytes, expected/, { kind: "clip", weights: "shape" }),
    refused(/program\.pt: .*global os\.system is refused/, head("program.pt")),
    refused(/program_zip\.pt: .*global os\.system is refused/, head("program_zip.pt")),
    refused(/bomb\.pt: zip archive entry data\.pkl is compressed/, head("bomb.pt")),
    refused(/damaged\.onnx: Model is not an ONNX file, or damaged$/, record("damaged")),
    refused(/outside\.onnx: Tensor .* lies in "\.\.\/\.\.\/.*inside the model/, record("outside")),
    refused(/absolute\.onnx: Tensor .* lies in "\/etc\/passwd/, record("absolute")),
    refused(/link\.onnx keeps tensors in "link\.data.*", which is a link$/, record("link")),
    picture,
  ];
}

function indexOf(bytes: Uint8Array, part: Uint8Array, from: number): number {
  for (let i = from; i <= bytes.length - part.length; i++) {
    if (part.every((byte, j) => bytes[i + j] === byte)) return i;
  }
  return -1;
}

/** A zip archive of one entry, said to be compressed by `method`. */
function storedZip(name: string, data: Uint8Array, method: number): Uint8Array {
  const le = (value: number, bytes: number) =>
    Array.from({ length: bytes }, (_, i) => Math.floor(value / 256 ** i) % 256);
  const chars = Array.from(name, (ch) => ch.charCodeAt(0));
  // A bomb: a gigabyte from a thousand bytes.
  const size = method === 0 ? data.length : 2 ** 30;
  const facts = [le(0, 2), le(method, 2), le(0, 8), le(data.length, 4), le(size, 4)].flat();
  const entry = [
    0x50,
    0x4b,
    3,
    4,
    ...le(20, 2),
    ...facts,
    ...le(chars.length, 2),
    ...le(0, 2),
    ...chars,
    ...data,
  ];
  const directory = [
    ...[0x50, 0x4b, 1, 2, ...le(20, 2), ...le(20, 2), ...facts, ...le(chars.length, 2)],
    ...[...le(0, 12), ...le(0, 4), ...chars],
  ];
  const end = [0x50, 0x4b, 5, 6, ...le(0, 4), ...le(1, 2), ...le(1, 2)];
  return Uint8Array.from([
    ...entry,
    ...directory,
    ...end,
    ...le(directory.length, 4),
    ...le(entry.length, 4),
    ...le(0, 2),
  ]);
}

/** A PNG of 100,000 x 100,000 pixels, by its header. */
function hugePng(): Uint8Array {
  const bytes = Uint8Array.fromBase64(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYGAAAAAEAAH2FzhVAAAAAElFTkSuQmCC",
  );
  const view = new DataView(bytes.buffer);
  view.setUint32(16, 100_000);
  view.setUint32(20, 100_000);
  return bytes;
}
