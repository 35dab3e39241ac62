import { PickleReader } from "./_pickle.ts";
import { kindOf, PickleList, type PickleValue, type StorageRef } from "./_pickle_values.ts";
import { scriptMeaning, STORED_BYTES, torchMeaning } from "./_torch_pickle.ts";
import type { ByteRange, WeightFile } from "./_weight_file.ts";
import { WeightsError } from "./weights_error.ts";
import { readZipDirectory } from "./_zip.ts";

/** The pickle of a PyTorch file, and where the storages lie that it names. */
export interface TorchLayout {
  readonly root: PickleValue;
  /** First byte of each storage in the file, by key. */
  readonly positions: ReadonlyMap<string, number>;
  /** Whether the file is a TorchScript program, of which the attributes of its modules are read. */
  readonly isScript: boolean;
}

/** Most bytes of a pickle: the tensors' data is outside it, so real ones stay below a megabyte. */
const MAX_PICKLE_BYTES = 32 << 20;
const MAGIC = 0x1950a86a20f9469cfc6cn;
const LEGACY_PROTOCOL = 1001;

/** Reads the layout of a `.pt` file, the zip archive of PyTorch 1.6 and later or the sequence of pickles before it. */
export function readTorchLayout(file: WeightFile): TorchLayout {
  const [start] = file.readSmall([{ position: 0, length: Math.min(file.size, 4) }]);
  if (start?.[0] === 0x50 && start[1] === 0x4b) return readZip(file);
  if (start?.[0] === 0x80) return readLegacy(file);
  throw new WeightsError(
    file.path,
    "is no PyTorch file: it begins with neither a zip nor a pickle",
  );
}

function readZip(file: WeightFile): TorchLayout {
  const entries = readZipDirectory(file);
  const name = [...entries.keys()].find((name) => /^[^/]+\/data\.pkl$/.test(name));
  if (name === undefined) {
    throw new WeightsError(file.path, "is a zip archive without data.pkl, expected a PyTorch file");
  }
  const folder = name.slice(0, -"data.pkl".length);
  const isScript = entries.has(`${folder}constants.pkl`);
  const find = (name: string): ByteRange | undefined => {
    const entry = entries.get(`${folder}${name}`);
    if (entry !== undefined && entry.method !== 0) {
      throw new WeightsError(
        file.path,
        `zip archive entry ${name} is compressed (method ${entry.method}), expected stored`,
      );
    }
    return entry;
  };
  const order = find("byteorder");
  if (order !== undefined && !isLittle(file, order)) {
    throw new WeightsError(file.path, "was saved on a big-endian machine, expected little-endian");
  }
  const pickle = find("data.pkl") ?? { position: 0, length: 0 };
  if (pickle.length > MAX_PICKLE_BYTES) {
    throw new WeightsError(
      file.path,
      `pickle has ${pickle.length} bytes, expected at most ${MAX_PICKLE_BYTES}`,
    );
  }
  const [bytes = new Uint8Array()] = file.readSmall([pickle]);
  const storages = new Map<string, StorageRef>();
  const meaning = isScript ? scriptMeaning(storages) : torchMeaning(storages);
  const { value: root } = new PickleReader(bytes, { path: file.path, meaning }).read();
  const positions = new Map<string, number>();
  for (const [key, storage] of storages) {
    const entry = find(`data/${key}`);
    if (entry?.length !== bytesOf(storage)) {
      throw new WeightsError(
        file.path,
        `storage ${key} has ${entry?.length ?? "no"} bytes, expected ${bytesOf(storage)}`,
      );
    }
    positions.set(key, entry.position);
  }
  return { root, positions, isScript };
}

function readLegacy(file: WeightFile): TorchLayout {
  const { path, size } = file;
  const [bytes = new Uint8Array()] = file.readSmall([
    { position: 0, length: Math.min(size, MAX_PICKLE_BYTES) },
  ]);
  const storages = new Map<string, StorageRef>();
  const meaning = torchMeaning(storages);
  let at = 0;
  const next = () => {
    const { value, end } = new PickleReader(bytes, { path, meaning, start: at }).read();
    at = end;
    return value;
  };
  if (next() !== MAGIC) {
    throw new WeightsError(path, "is a pickle but no PyTorch file: it lacks the magic number");
  }
  const protocol = next();
  if (protocol !== LEGACY_PROTOCOL) {
    const found = typeof protocol === "number" ? protocol : kindOf(protocol);
    throw new WeightsError(path, `protocol is ${found}, expected ${LEGACY_PROTOCOL}`);
  }
  const system = next();
  if (!(system instanceof Map) || system.get("little_endian") !== true) {
    throw new WeightsError(path, "was saved on a big-endian machine, expected little-endian");
  }
  const root = next();
  const keys = next();
  if (!(keys instanceof PickleList) || keys.items.length !== storages.size) {
    const found = keys instanceof PickleList ? `${keys.items.length} storages` : kindOf(keys);
    throw new WeightsError(path, `lists ${found}, expected ${storages.size} storages`);
  }
  return { root, positions: locateStorages(file, keys, { storages, at }), isScript: false };
}

/** The storages follow the pickles: each its element count in 8 bytes, then its data. */
function locateStorages(
  file: WeightFile,
  keys: PickleList,
  { storages, at }: { storages: ReadonlyMap<string, StorageRef>; at: number },
): Map<string, number> {
  const positions = new Map<string, number>();
  const ranges: { position: number; length: number }[] = [];
  const expected: StorageRef[] = [];
  for (const key of keys.items) {
    const storage = typeof key === "string" ? storages.get(key) : undefined;
    if (storage === undefined || positions.has(storage.key)) {
      const found = typeof key === "string" ? key : kindOf(key);
      throw new WeightsError(
        file.path,
        `lists storage ${found}, which is unknown or listed before`,
      );
    }
    ranges.push({ position: at, length: 8 });
    expected.push(storage);
    positions.set(storage.key, at + 8);
    at += 8 + bytesOf(storage);
  }
  if (at !== file.size) {
    throw new WeightsError(
      file.path,
      `has ${file.size} bytes, expected ${at}` + (file.size < at ? ": it is truncated" : ""),
    );
  }
  for (const [i, count] of file.readSmall(ranges).entries()) {
    const found = new DataView(count.buffer).getBigInt64(0, true);
    if (found !== BigInt(expected[i]?.length ?? -1)) {
      throw new WeightsError(
        file.path,
        `storage ${expected[i]?.key} has ${found} elements, expected ${expected[i]?.length}`,
      );
    }
  }
  return positions;
}

function isLittle(file: WeightFile, order: ByteRange): boolean {
  if (order.length !== "little".length) return false;
  return new TextDecoder().decode(file.readSmall([order])[0]) === "little";
}

function bytesOf({ dtype, length }: StorageRef): number {
  return length * (dtype === undefined ? 1 : STORED_BYTES[dtype]);
}
