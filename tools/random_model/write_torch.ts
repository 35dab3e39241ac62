import { crc32 } from "node:zlib";
import type { Shape, Tensor } from "../../autodiff/mod.ts";

/** Tensors of one dtype to be written, one after another. */
export interface TorchTensors {
  readonly dtype: "float32" | "float16";
  readonly shapes: ReadonlyMap<string, Shape>;
  readonly read: (name: string) => Tensor;
}

const STORAGE = { float32: "FloatStorage", float16: "HalfStorage" } as const;

/** Where torch.save aligns storages. */
const ALIGNMENT = 64;

/**
 * Writes what `torch.save({key: state_dict})` does, or of the state dict alone without a `key`: a zip archive of a pickle
 * and one stored entry a tensor, of which one is in memory at a time. Up to 4 GB.
 */
export async function writeTorch(
  path: string,
  { dtype, shapes, read }: TorchTensors,
  key?: string,
): Promise<void> {
  using file = await Deno.open(path, { write: true, create: true, truncate: true });
  const directory: Uint8Array[] = [];
  let at = 0;
  const write = async (bytes: Uint8Array) => {
    for (let done = 0; done < bytes.length;) done += await file.write(bytes.subarray(done));
    at += bytes.length;
  };
  const entry = async (name: string, data: Uint8Array) => {
    const path = new TextEncoder().encode(`archive/${name}`);
    const gap = ALIGNMENT - (at + 30 + path.length) % ALIGNMENT;
    // An extra field has four bytes of its own.
    const extra = gap < 4 ? gap + ALIGNMENT : gap;
    const facts = [
      [20, 2],
      [0, 2],
      [0, 2],
      [0, 2],
      [0x21, 2],
      [crc32(data), 4],
      [data.length, 4],
      [data.length, 4],
      [path.length, 2],
    ] as const;
    const padding = numbers([[0x4246, 2], [extra - 4, 2], ...zeros(extra - 4)]);
    const position = at;
    await write(join(numbers([[0x04034b50, 4], ...facts, [extra, 2]]), path, padding));
    await write(data);
    directory.push(join(
      numbers([[0x02014b50, 4], [20, 2], ...facts, [0, 2], [0, 2], [0, 2], [0, 2], [0, 4], [
        position,
        4,
      ]]),
      path,
    ));
  };
  await entry("data.pkl", pickle({ dtype, shapes }, key));
  await entry("byteorder", new TextEncoder().encode("little"));
  for (const [i, name] of [...shapes.keys()].entries()) {
    const { buffer, byteOffset, byteLength } = read(name).data;
    await entry(`data/${i}`, new Uint8Array(buffer, byteOffset, byteLength));
  }
  await entry("version", new TextEncoder().encode("3\n"));
  const start = at;
  for (const bytes of directory) await write(bytes);
  const count = directory.length;
  await write(
    numbers([[0x06054b50, 4], [0, 2], [0, 2], [count, 2], [count, 2], [at - start, 4], [start, 4], [
      0,
      2,
    ]]),
  );
}

type Field = readonly [value: number, bytes: number];

const zeros = (count: number): Field[] => Array.from({ length: count }, () => [0, 1]);

/** Little-endian numbers in a row. */
function numbers(fields: readonly Field[]): Uint8Array {
  return Uint8Array.from(
    fields.flatMap(([value, bytes]) =>
      Array.from({ length: bytes }, (_, i) => Math.floor(value / 256 ** i) % 256)
    ),
  );
}

function join(...parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** The pickle (protocol 2) of the tensors by name. */
function pickle({ dtype, shapes }: Pick<TorchTensors, "dtype" | "shapes">, key?: string) {
  const parts: Uint8Array[] = [];
  const put = (text: string) => parts.push(Uint8Array.from(text, (ch) => ch.charCodeAt(0)));
  const op = (code: string, value: number, bytes: number) => {
    put(code);
    parts.push(numbers([[value, bytes]]));
  };
  const string = (text: string) => {
    const bytes = new TextEncoder().encode(text);
    op("X", bytes.length, 4);
    parts.push(bytes);
  };
  const integer = (value: number) => op("J", value, 4);
  const tuple = (values: readonly number[]) => {
    put("(");
    values.forEach(integer);
    put("t");
  };
  put("\x80\x02");
  if (key !== undefined) {
    put("}");
    string(key);
  }
  put("ccollections\nOrderedDict\n)R(");
  for (const [i, [name, shape]] of [...shapes].entries()) {
    string(name);
    put("ctorch._utils\n_rebuild_tensor_v2\n((");
    string("storage");
    put(`ctorch\n${STORAGE[dtype]}\n`);
    string(String(i));
    string("cpu");
    integer(shape.reduce((n, d) => n * d, 1));
    put("tQ");
    integer(0);
    tuple(shape);
    tuple(shape.map((_, d) => shape.slice(d + 1).reduce((n, size) => n * size, 1)));
    // No gradient, no hooks.
    put("\x89ccollections\nOrderedDict\n)RtR");
  }
  put(key === undefined ? "u." : "us.");
  return join(...parts);
}
