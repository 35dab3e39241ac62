import assert from "node:assert/strict";
import { join } from "node:path";
import { openSafetensors, openTorchFile, readTorchFile, WeightsError } from "./mod.ts";
import { OPCODES as O } from "./_pickle_opcodes.ts";
import {
  bytesOf,
  global,
  legacyFile,
  type Part,
  tensor,
  text,
  V2,
  zipFile,
  type ZipPart,
} from "./_test_bytes.ts";

const TESTDATA = join(import.meta.dirname ?? "", "..", "testdata");

async function assertEqualFiles(torchPath: string, safetensorsPath: string) {
  const expected = openSafetensors(safetensorsPath);
  const { tensors } = await readTorchFile(torchPath);
  assert.deepEqual(new Set(tensors.keys()), new Set(expected.tensors.keys()));
  for (const [name, tensor] of tensors) assert.deepEqual(tensor, await expected.read(name), name);
}

for (
  const [name, layouts] of Object.entries({
    dtypes: ["zip2", "legacy2"],
    views: ["zip2", "legacy2"],
    nested: ["zip2", "zip3", "zip4", "zip5", "legacy2", "legacy3", "legacy4", "legacy5"],
    beside: ["zip2", "zip3", "legacy2", "legacy3"],
    python: ["zip2", "zip3", "zip4", "zip5", "legacy2", "legacy3", "legacy4", "legacy5"],
    untyped: ["zip2"],
    cuda: ["zip2"],
  })
) {
  for (const layout of layouts) {
    Deno.test(`torch file: ${name} in ${layout} equals what PyTorch holds, bit for bit`, async () => {
      const torchPath = join(TESTDATA, `torch_${name}_${layout}.pt`);
      await assertEqualFiles(torchPath, join(TESTDATA, `torch_${name}.safetensors`));
    });
  }
}

Deno.test("torch file: numbers beside the tensors are told", () => {
  const lightning = join(
    TESTDATA,
    "..",
    "..",
    "tests",
    "published",
    "single_files",
    "lightning.ckpt",
  );
  const { numbers } = openTorchFile(lightning);
  assert.deepEqual(Object.fromEntries(numbers), { epoch: 1, global_step: 875_000 });
});

Deno.test("torch file: a key selects what lies under it", () => {
  const path = join(TESTDATA, "torch_nested_zip2.pt");
  const names = [...openTorchFile(path, { key: "state_dict" }).tensors.keys()];
  assert.deepEqual(names, [
    ...["0.weight", "0.bias", "1.weight", "1.bias"],
    ...["1.running_mean", "1.running_var", "1.num_batches_tracked"],
  ]);
  assert.throws(
    () => openTorchFile(path, { key: "params" }),
    /has no key "params"; its first keys are epoch, best, name, flag, nothing, big, negative, dtype$/,
  );
  assert.throws(() => openTorchFile(path, { key: "epoch" }), /holds no tensors/);
});

for (
  const [name, message] of [
    ["module", /global torch\.nn\.modules\.linear\.Linear is refused.*state_dict\(\).*at byte 2 /],
    ["conj", /global torch\.ComplexFloatStorage is refused/],
    ["uint16", /tensor's dtype is torch\.uint16, expected one of torch\.float64, /],
  ] as const
) {
  Deno.test(`torch file: ${name} is refused by name`, () => {
    assert.throws(() => openTorchFile(join(TESTDATA, `torch_refused_${name}.pt`)), message);
  });
}

Deno.test("torch file: of a TorchScript program the modules' tensors are read", async () => {
  const file = openTorchFile(join(TESTDATA, "torch_script.pt"));
  assert.equal(file.isScript, true);
  assert.deepEqual([...file.tensors], [
    ["weight", { dtype: "float32", shape: [2, 2] }],
    ["bias", { dtype: "float32", shape: [2] }],
  ]);
  const { data } = await file.read("weight");
  assert.ok(Array.from(data, Number).every((v) => Math.abs(v) <= Math.SQRT1_2 && v !== 0));
});

Deno.test("torch file: truncations and random changes give an error of ours or a value", () => {
  const path = Deno.makeTempFileSync();
  const attempt = (bytes: Uint8Array): boolean => {
    Deno.writeFileSync(path, bytes);
    try {
      openTorchFile(path);
      return true;
    } catch (error) {
      if (error instanceof WeightsError) return false;
      throw error;
    }
  };
  let seed = 1;
  const random = (below: number) => {
    seed = Math.imul(seed, 1664525) + 1013904223 >>> 0;
    return Math.floor(seed / 2 ** 32 * below);
  };
  for (
    const name of ["torch_views_zip2.pt", "torch_views_legacy2.pt"]
  ) {
    const bytes = Deno.readFileSync(join(TESTDATA, name));
    assert.ok(attempt(bytes));
    for (let end = 0; end < bytes.length; end += 5) {
      assert.equal(attempt(bytes.subarray(0, end)), false, `${name} cut at ${end}`);
    }
    for (let i = 0; i < 300; i++) {
      const changed = bytes.slice();
      for (let n = 0; n <= random(3); n++) changed[random(bytes.length)] = random(256);
      attempt(changed);
    }
  }
  Deno.removeSync(path);
});

const dict = (...items: readonly Part[]) => [O.EMPTY_DICT, items.map((i) => [i, O.SETITEM])];

/** Lists of which each holds the one before it twice: four million ways to the tensor in the innermost. */
const doubled = [
  [O.MARK, tensor(1), O.BINPUT, 0],
  Array.from({ length: 22 }, (_, i) => [
    [O.EMPTY_LIST, O.MARK, O.BINGET, i, O.BINGET, i, O.APPENDS, O.BINPUT, i + 1],
  ]),
];

const archive = (pickle: Part, ...more: ZipPart[]) =>
  zipFile([{ name: "x/data.pkl", data: bytesOf(V2, pickle, O.STOP) }, ...more]);
const one = dict([text("a"), tensor(2)]);

const HOSTILE: [name: string, bytes: Uint8Array<ArrayBuffer>, message: RegExp][] = [
  ["no file of ours", bytesOf("GIF89a"), /begins with neither a zip nor a pickle/],
  ["an empty file", bytesOf(), /begins with neither a zip nor a pickle/],
  ["a plain pickle", bytesOf(V2, one, O.STOP), /lacks the magic number/],
  [
    "a call",
    legacyFile([global("os", "system"), text("id"), O.TUPLE1, O.REDUCE]),
    /global os\.system is refused.* at byte 44 of/,
  ],
  ["a lone tensor", legacyFile(tensor(1), 1), /holds a tensor without a name/],
  ["no tensor", legacyFile(dict([text("a"), O.NONE])), /holds no tensors/],
  ["a storage cut short", legacyFile(one, 2).subarray(0, -1), /expected \d+: it is truncated/],
  ["bytes behind the storages", bytesOf(legacyFile(one, 2), 0), /has \d+ bytes, expected \d+$/],
  ["an unlisted storage", legacyFile(one), /lists 0 storages, expected 1/],
  [
    "a storage of another length",
    legacyFile(dict([text("a"), tensor(3)]), 2),
    /expected \d+: it is trunc/,
  ],
  [
    "a count that lies",
    legacyFile(one, 2).map((byte, i, all) => i === all.length - 16 ? 1 : byte),
    /storage 0 has 1 elements, expected 2/,
  ],
  [
    "a view repeated beyond measure",
    legacyFile(dict([text("a"), tensor(1, { shape: [2 ** 30], strides: [0] })]), 1),
    /tensors take 4294967296 bytes, expected at most 1677\d{4} for a file of/,
  ],
  [
    "a view of more elements than numbers can count",
    legacyFile(
      dict([text("a"), tensor(1, { shape: Array(60).fill(2 ** 30), strides: Array(60).fill(0) })]),
      1,
    ),
    /tensors take \S+ bytes, expected at most/,
  ],
  [
    "one tensor by millions of ways",
    legacyFile([doubled, O.TUPLE], 1),
    /holds more than 100000 values/,
  ],
  [
    "a dictionary in itself",
    legacyFile([O.EMPTY_DICT, O.BINPUT, 0, text("a"), O.BINGET, 0, O.SETITEM]),
    /nests containers more than 64 deep/,
  ],
  [
    "two tensors of one name",
    legacyFile(dict([text("a.b"), tensor(1)], [text("a"), dict([text("b"), tensor(1)])]), 1),
    /holds two tensors named "a.b"/,
  ],
  [
    "an archive without pickle",
    zipFile([{ name: "x/a", data: "" }]),
    /zip archive without data.pkl/,
  ],
  ["a missing storage", archive(one), /storage 0 has no bytes, expected 8/],
  [
    "a storage too long",
    archive(one, { name: "x/data/0", data: "123456789" }),
    /storage 0 has 9 bytes, expected 8/,
  ],
  [
    "a compressed storage",
    archive(one, { name: "x/data/0", data: "1", method: 8, size: 8 }),
    /entry data\/0 is compressed \(method 8\)/,
  ],
  [
    "a big-endian archive",
    archive(one, { name: "x/byteorder", data: "big" }),
    /saved on a big-endian machine/,
  ],
];

for (const [name, bytes, message] of HOSTILE) {
  Deno.test(`torch file refuses: ${name}`, () => {
    const path = Deno.makeTempFileSync();
    Deno.writeFileSync(path, bytes);
    assert.throws(() => openTorchFile(path), (error) => {
      assert.ok(error instanceof WeightsError);
      assert.match(error.message, message);
      return true;
    });
    Deno.removeSync(path);
  });
}

Deno.test("10000 hostile files leave no memory behind", async () => {
  const folder = Deno.makeTempDirSync();
  for (const [i, [name, bytes]] of HOSTILE.entries()) {
    const speed = name.includes("millions") ? "slow" : "fast";
    Deno.writeFileSync(join(folder, `${speed}-${i}.pt`), bytes);
  }
  const script = join(import.meta.dirname ?? "", "_measure_hostile.ts");
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", "--no-check", script, folder],
  }).output();
  const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  assert.ok(success, decode(stderr));
  const grown = Number(decode(stdout));
  assert.ok(grown < 50e6, `memory grew by ${decode(stdout).trim()} bytes`);
  Deno.removeSync(folder, { recursive: true });
});
