import {
  type Fail,
  isTuple,
  PickleList,
  type PickleTuple,
  type PickleValue,
} from "./_pickle_values.ts";

/** What a name stands for when a pickle calls it. */
export type Call = (args: PickleTuple, fail: Fail) => PickleValue;

/** Python's own names, in Python 3 and, of protocol 2, in Python 2. */
const builtins = (...names: readonly string[]) =>
  names.flatMap((name) => [`builtins.${name}`, `__builtin__.${name}`]);

/** Classes and functions whose results say nothing about tensors. They are never looked up: their content is dropped. */
const INERT: ReadonlySet<string> = new Set([
  ...builtins("bytearray", "bytes", "complex", "range", "xrange", "slice", "type"),
  ...["date", "datetime", "time", "timedelta", "timezone"].map((name) => `datetime.${name}`),
  ...["Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath"].flatMap(
    (name) => [`pathlib.${name}`, `pathlib._local.${name}`],
  ),
  "argparse.Namespace",
  "decimal.Decimal",
  "fractions.Fraction",
  "types.SimpleNamespace",
  "uuid.UUID",
  ...["numpy.core", "numpy._core"].flatMap((numpy) => [
    `${numpy}.multiarray.scalar`,
    `${numpy}.multiarray._reconstruct`,
    `${numpy}.numeric._frombuffer`,
  ]),
  "numpy.dtype",
  "numpy.ndarray",
  "torch.device",
  "torch.serialization._get_layout",
  "torch._C._get_layout",
  "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
  "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
  "pytorch_lightning.utilities.parsing.AttributeDict",
  "lightning_fabric.utilities.data.AttributeDict",
  "lightning.fabric.utilities.data.AttributeDict",
]);

/** Packages of settings, all of whose classes are so. */
const INERT_PACKAGES = ["omegaconf.", "numpy.dtypes."];

/** Whether a pickle may make such an object beside tensors, and nothing of it is kept. */
export function isInert(name: string): boolean {
  return INERT.has(name) || INERT_PACKAGES.some((start) => name.startsWith(start));
}

const listOf: Call = ([items]) => {
  const list = new PickleList();
  const from = items instanceof PickleList ? items.items : isTuple(items) ? items : [];
  for (const item of from) list.items.push(item);
  return list;
};

/** What training programs leave beside weights that is a container or a name and no more; called, where it can be. */
export const BESIDE: ReadonlyMap<string, Call | undefined> = new Map<string, Call | undefined>([
  ...builtins("set", "frozenset").map((name) => [name, listOf] as const),
  ["collections.deque", listOf],
  // Dictionaries that make what they lack.
  ["collections.defaultdict", () => new Map()],
  ["collections.Counter", () => new Map()],
  ...builtins(
    ...["list", "dict", "tuple", "int", "long", "float", "bool", "str", "unicode", "object"],
    ...["Ellipsis", "NotImplemented", "NoneType"],
  ).map((name) => [name, undefined] as const),
  ["typing.Any", undefined],
  ["_codecs.encode", ([text], fail) => typeof text === "string" ? text : fail("encodes no text")],
]);
