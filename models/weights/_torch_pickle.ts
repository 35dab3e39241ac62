import { BESIDE, type Call, isInert } from "./_torch_beside.ts";
import type { PickleMeaning } from "./_pickle.ts";
import {
  type Fail,
  isTuple,
  kindOf,
  type PickleDict,
  PickleGlobal,
  PickleList,
  type PickleTuple,
  type PickleValue,
  setItem,
  StorageRef,
  type StoredDType,
  TensorRef,
} from "./_pickle_values.ts";

/** Bytes of one stored element. */
export const STORED_BYTES: Readonly<Record<StoredDType, number>> = {
  float64: 8,
  int64: 8,
  float32: 4,
  int32: 4,
  float16: 2,
  bfloat16: 2,
  int16: 2,
  int8: 1,
  uint8: 1,
  bool: 1,
  float8_e4m3fn: 1,
  float8_e5m2: 1,
};

/** Storage classes; undefined for the untyped one, which counts bytes. */
const STORAGES: ReadonlyMap<string, StoredDType | undefined> = new Map([
  ["torch.DoubleStorage", "float64"],
  ["torch.LongStorage", "int64"],
  ["torch.FloatStorage", "float32"],
  ["torch.IntStorage", "int32"],
  ["torch.HalfStorage", "float16"],
  ["torch.BFloat16Storage", "bfloat16"],
  ["torch.ShortStorage", "int16"],
  ["torch.CharStorage", "int8"],
  ["torch.ByteStorage", "uint8"],
  ["torch.BoolStorage", "bool"],
  ["torch.storage.UntypedStorage", undefined],
  ["torch.UntypedStorage", undefined],
]);

/** dtype objects; they come with tensors over untyped storages. */
const DTYPES: ReadonlyMap<string, StoredDType> = new Map([
  ["torch.float64", "float64"],
  ["torch.int64", "int64"],
  ["torch.float32", "float32"],
  ["torch.int32", "int32"],
  ["torch.float16", "float16"],
  ["torch.bfloat16", "bfloat16"],
  ["torch.int16", "int16"],
  ["torch.int8", "int8"],
  ["torch.uint8", "uint8"],
  ["torch.bool", "bool"],
  ["torch.float8_e4m3fn", "float8_e4m3fn"],
  ["torch.float8_e5m2", "float8_e5m2"],
]);

/** Every dtype of PyTorch's: those that are not read may stand beside tensors. */
const DTYPE_NAME = /^torch\.(?:bool|(?:u?int|q?u?int|b?float|complex|bits)\d\w*)$/;

/** Classes of tensors that have no behaviour of their own. */
const OWN_TYPES: ReadonlySet<string> = new Set([
  "torch.Tensor",
  "torch._tensor.Tensor",
  "torch.nn.parameter.Parameter",
]);

const CALLABLE: ReadonlyMap<string, Call> = new Map<string, Call>([
  ["collections.OrderedDict", orderedDict],
  ["torch.Size", ([sizes], fail) => isTuple(sizes) ? sizes : fail("torch.Size lacks its tuple")],
  ["torch._utils._rebuild_tensor", rebuildTensor],
  [
    "torch._utils._rebuild_tensor_v2",
    (args, fail) => {
      checkPlain(args[6], fail);
      return rebuildTensor(args, fail);
    },
  ],
  [
    "torch._utils._rebuild_tensor_v3",
    (args, fail) => {
      checkPlain(args[7], fail);
      const dtype = args[6] instanceof PickleGlobal ? DTYPES.get(args[6].name) : undefined;
      if (!(args[0] instanceof StorageRef) || args[0].dtype !== undefined) {
        return fail("tensor with a dtype of its own is not over an untyped storage");
      }
      return dtype ? rebuildTensor(args, fail, dtype) : fail(
        `tensor's dtype is ${kindOf(args[6])}, expected one of ${[...DTYPES.keys()].join(", ")}`,
      );
    },
  ],
  ["torch._utils._rebuild_parameter", parameter],
  // With attributes that someone hung on it, which change no value.
  ["torch._utils._rebuild_parameter_with_state", parameter],
  ["torch._tensor._rebuild_from_type_v2", rebuildFromType],
]);

const first = ([value]: PickleTuple, fail: Fail): PickleValue =>
  value ?? fail("call lacks its argument");

/** What TorchScript's pickler calls besides: notes of a list's type, and devices. */
const OF_SCRIPTS = new Map<string, Call>([
  ["torch.jit._pickle.restore_type_tag", first],
  ["torch.jit._pickle.build_intlist", first],
  ["torch.jit._pickle.build_doublelist", first],
  ["torch.jit._pickle.build_boollist", first],
  ["torch.jit._pickle.build_tensorlist", first],
  ["torch.device", first],
]);

/**
 * What the names in a TorchScript archive mean: modules are records of their attributes, under whatever names their
 * classes have. The program itself, which lies beside the pickle, is never read.
 */
export function scriptMeaning(storages: Map<string, StorageRef>): PickleMeaning {
  const torch = torchMeaning(storages);
  const isRecord = (name: string) => name.startsWith("__torch__.");
  return {
    isRecord,
    isInert: torch.isInert,
    isKnown: (name) => isRecord(name) || OF_SCRIPTS.has(name) || torch.isKnown(name),
    call: (name, args, fail) => OF_SCRIPTS.get(name)?.(args, fail) ?? torch.call(name, args, fail),
    persistent: torch.persistent,
  };
}

/** What the names in a PyTorch file mean. Storages named by it are collected by key in `storages`. */
export function torchMeaning(storages: Map<string, StorageRef>): PickleMeaning {
  return {
    isInert,
    isKnown: (name) =>
      CALLABLE.has(name) || STORAGES.has(name) || DTYPE_NAME.test(name) || BESIDE.has(name) ||
      OWN_TYPES.has(name) || isInert(name),
    call: (name, args, fail) => {
      const made = (CALLABLE.get(name) ?? BESIDE.get(name))?.(args, fail);
      return made === undefined ? fail(`${name} is called, expected a function`) : made;
    },
    persistent: (id, fail) => {
      const storage = storageOf(id, fail);
      const known = storages.get(storage.key);
      if (known === undefined) {
        storages.set(storage.key, storage);
        return storage;
      }
      if (known.dtype !== storage.dtype || known.length !== storage.length) {
        return fail(
          `storage ${storage.key} is ${storage.dtype} of ${storage.length} elements, ` +
            `before it was ${known.dtype} of ${known.length}`,
        );
      }
      return known;
    },
  };
}

function storageOf(id: PickleTuple, fail: Fail): StorageRef {
  // The fourth is the device the storage was on, e.g. "cuda:0", which is no concern of a reader.
  const [kind, type, key, , length, view] = id;
  if (kind !== "storage") {
    return fail(`persistent id of a ${typeof kind === "string" ? kind : kindOf(kind)} is refused`);
  }
  if (!(type instanceof PickleGlobal) || !STORAGES.has(type.name)) {
    return fail(`storage type is ${kindOf(type)}`);
  }
  if (typeof key !== "string" || !/^\w{1,32}$/.test(key)) {
    return fail(`storage key is ${typeof key === "string" ? JSON.stringify(key) : kindOf(key)}`);
  }
  if (!isCount(length)) return fail(`storage ${key} has no length in elements`);
  if (view !== undefined && view !== null) {
    return fail(
      `storage ${key} is a view of another storage (PyTorch before 0.4), which is refused`,
    );
  }
  return new StorageRef(key, STORAGES.get(type.name), length);
}

/** A tensor with attributes that someone hung on it: which class it is of, and how it is made otherwise. */
function rebuildFromType([rebuild, type, args]: PickleTuple, fail: Fail): PickleValue {
  if (!(type instanceof PickleGlobal) || !OWN_TYPES.has(type.name)) {
    return fail(`tensor is a ${kindOf(type)}, expected torch.Tensor`);
  }
  const call = rebuild instanceof PickleGlobal ? CALLABLE.get(rebuild.name) : undefined;
  if (call === undefined || !isTuple(args)) return fail(`tensor is made by ${kindOf(rebuild)}`);
  return call(args, fail);
}

function parameter([data]: PickleTuple, fail: Fail): PickleValue {
  return data instanceof TensorRef ? data : fail(`parameter holds ${kindOf(data)}`);
}

/** Arguments: storage, offset, size, stride. `dtype` is given for an untyped storage only. */
function rebuildTensor(args: PickleTuple, fail: Fail, dtype?: StoredDType): TensorRef {
  const [storage, offset, shape, strides] = args;
  if (!(storage instanceof StorageRef)) return fail(`tensor's storage is ${kindOf(storage)}`);
  const element = storage.dtype ?? dtype;
  if (element === undefined) return fail("tensor over an untyped storage has no dtype");
  if (!isCount(offset) || !isCounts(shape) || !isCounts(strides)) {
    return fail("tensor's offset, size or stride is not made of non-negative integers");
  }
  if (shape.length !== strides.length || shape.length > 64) {
    return fail(`tensor has ${shape.length} sizes and ${strides.length} strides`);
  }
  const available = storage.dtype
    ? storage.length
    : Math.floor(storage.length / STORED_BYTES[element]);
  const end = offset + spanOf(shape, strides);
  if (end > available) {
    return fail(
      `tensor [${shape.join(", ")}] needs ${end} elements of storage ${storage.key}, ` +
        `which has ${available}`,
    );
  }
  return new TensorRef(storage, element, offset, shape, strides);
}

/** Elements from the first to the last of a strided view; 0 for an empty one. */
export function spanOf(shape: readonly number[], strides: readonly number[]): number {
  if (shape.includes(0)) return 0;
  return shape.reduce((span, size, d) => span + (size - 1) * (strides[d] ?? 0), 1);
}

/** Lazy conjugation and negation are flags beside the data: to overlook them would change the values. */
function checkPlain(metadata: PickleValue | undefined, fail: Fail): void {
  const isPlain = metadata === undefined || metadata === null ||
    (metadata instanceof Map && metadata.size === 0);
  if (!isPlain) fail("tensor carries flags such as lazy negation, which are refused");
}

function orderedDict([pairs]: PickleTuple, fail: Fail): PickleDict {
  const dict: PickleDict = new Map();
  if (pairs === undefined) return dict;
  if (!(pairs instanceof PickleList)) return fail(`OrderedDict is made of ${kindOf(pairs)}`);
  for (const pair of pairs.items) {
    const items = pair instanceof PickleList ? pair.items : pair;
    if (!isTuple(items) || items.length !== 2) return fail("OrderedDict item is not a pair");
    setItem(dict, items[0], items[1], fail);
  }
  return dict;
}

function isCount(value: PickleValue | undefined): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function isCounts(value: PickleValue | undefined): value is readonly number[] {
  return isTuple(value) && value.every(isCount);
}
