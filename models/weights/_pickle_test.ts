import assert from "node:assert/strict";
import { PickleReader } from "./_pickle.ts";
import { OPCODES, REFUSED_OPCODES } from "./_pickle_opcodes.ts";
import { PickleList, type StorageRef, TensorRef } from "./_pickle_values.ts";
import { bytesOf, global, le, type Part, storage, tensor, text, V2 } from "./_test_bytes.ts";
import { torchMeaning } from "./_torch_pickle.ts";
import { WeightsError } from "./weights_error.ts";

function read(...parts: readonly Part[]) {
  const meaning = torchMeaning(new Map<string, StorageRef>());
  return new PickleReader(bytesOf(...parts), { path: "x.pt", meaning }).read();
}

const O = OPCODES;

Deno.test("the opcode tables hold the 68 opcodes of protocols 0 to 5, each once", () => {
  // Sorted codes of Python's pickletools.opcodes.
  const all = "()012BCFGIJKLMNPQRSTUVX]abcdeghijloqrstu}".split("").map((c) => c.charCodeAt(0));
  all.push(0x2e, 0x70);
  for (let code = 0x80; code <= 0x98; code++) all.push(code);
  const known = [...Object.values(OPCODES), ...Object.keys(REFUSED_OPCODES).map(Number)];
  assert.equal(new Set(all).size, 68);
  assert.deepEqual(known.sort((a, b) => a - b), all.sort((a, b) => a - b));
});

Deno.test("every byte that is no opcode of the subset is refused with its name and position", () => {
  const accepted = new Set<number>(Object.values(OPCODES));
  for (let opcode = 0; opcode < 256; opcode++) {
    if (accepted.has(opcode)) continue;
    const name = REFUSED_OPCODES[opcode];
    const expected = name === undefined ? "is no opcode" : `opcode ${name} (0x`;
    assert.throws(() => read(V2, O.NONE, opcode), (error) => {
      assert.ok(error instanceof WeightsError);
      assert.ok(error.message.includes(expected), error.message);
      assert.match(error.message, /at byte 3 of the pickle$/);
      return true;
    });
  }
});

Deno.test("globals outside the subset are refused with name and position, however they are spelled", () => {
  for (
    const [module, name] of [
      ["os", "system"],
      ["builtins", "eval"],
      ["torch.nn.modules.linear", "Linear"],
      ["torch.storage", "_load_from_bytes"],
      ["torch", "load"],
      ["collections", "__proto__"],
      ["", "constructor"],
    ] as const
  ) {
    const message = new RegExp(`global ${module}\\.${name} is refused`);
    assert.throws(() => read(V2, global(module, name)), message);
    const four = [O.PROTO, 4, text(module), text(name), O.STACK_GLOBAL];
    assert.throws(() => read(...four), message);
    assert.throws(() => read(...four), new RegExp(`at byte ${6 + module.length + name.length} of`));
  }
});

const REFUSED: [name: string, parts: Part[], message: RegExp][] = [
  ["nothing", [], /truncated: 1 more bytes expected, 0 left, at byte 0/],
  ["no protocol", [O.NONE, O.STOP], /does not begin with its protocol/],
  ["protocol 1", [O.PROTO, 1, O.NONE, O.STOP], /protocol is 1, expected 2 to 5/],
  ["protocol 6", [O.PROTO, 6, O.NONE, O.STOP], /protocol is 6, expected 2 to 5/],
  ["no end", [V2, O.NONE], /truncated/],
  ["empty stack at the end", [V2, O.STOP], /stops with 0 values, expected 1/],
  ["two values", [V2, O.NONE, O.NONE, O.STOP], /stops with 2 values/],
  ["an open mark", [V2, O.NONE, O.MARK, O.STOP], /stops with 1 values/],
  ["pop of nothing", [V2, O.TUPLE1], /takes a value where there is none, at byte 2/],
  ["pop below a mark", [V2, O.NONE, O.MARK, O.TUPLE1], /takes a value where there is none/],
  ["no mark", [V2, O.NONE, O.TUPLE], /lacks a MARK/],
  [
    "text beyond the end",
    [V2, O.BINUNICODE, 255, 255, 255, 255, "a"],
    /4294967295 more bytes expected, 1 left/,
  ],
  [
    "64-bit length",
    [V2, O.BINUNICODE8, 0, 0, 0, 0, 0, 0, 0, 128],
    /9223372036854776000 more bytes/,
  ],
  ["lying frame", [O.PROTO, 4, O.FRAME, 9, 0, 0, 0, 0, 0, 0, 0, O.NONE], /frame is longer/],
  ["bad UTF-8", [V2, O.SHORT_BINUNICODE, 1, 255], /text is not valid UTF-8/],
  ["unfinished name", [V2, O.GLOBAL, "os"], /truncated inside a name/],
  ["number as a name", [V2, O.NONE, O.NONE, O.STACK_GLOBAL], /names None and None/],
  ["unset memo", [V2, O.BINGET, 7], /recalls memo 7, which was never set/],
  ["append to a dict", [V2, O.EMPTY_DICT, O.NONE, O.APPEND], /appends to dict/],
  ["item of a list", [V2, O.EMPTY_LIST, O.NONE, O.NONE, O.SETITEM], /sets items of list/],
  ["key without value", [V2, O.EMPTY_DICT, O.MARK, O.NONE, O.SETITEMS], /a key without a value/],
  ["call of a number", [V2, O.NEWTRUE, O.EMPTY_TUPLE, O.REDUCE], /REDUCE calls boolean with tuple/],
  [
    "call without a tuple",
    [V2, global("torch", "Size"), O.NONE, O.REDUCE],
    /calls torch.Size with None/,
  ],
  [
    "call of a class",
    [V2, global("torch", "FloatStorage"), O.EMPTY_TUPLE, O.REDUCE],
    /FloatStorage is called, expected a function/,
  ],
  ["state of a tuple", [V2, O.EMPTY_TUPLE, O.NONE, O.BUILD], /sets state of tuple/],
  ["persistent id None", [V2, O.NONE, O.BINPERSID], /persistent id is None/],
  [
    "a pickled class",
    [V2, text("module"), O.TUPLE1, O.BINPERSID],
    /persistent id of a module is refused/,
  ],
  [
    "storage too small",
    [V2, tensor(5, { shape: [2, 3], strides: [3, 1] })],
    /\[2, 3\] needs 6 elements of storage 0, which has 5/,
  ],
  [
    "offset beyond storage",
    [V2, tensor(6, { offset: 1 })],
    /needs 7 elements of storage 0, which has 6/,
  ],
  ["stride beyond storage", [V2, tensor(6, { shape: [2], strides: [200] })], /needs 201 elements/],
  ["ranks differ", [V2, tensor(6, { shape: [2], strides: [1, 1] })], /has 1 sizes and 2 strides/],
  [
    "a storage of two lengths",
    [V2, O.MARK, storage(5), storage(6), O.TUPLE, O.STOP],
    /storage 0 is float32 of 6 elements, before it was float32 of 5/,
  ],
  ["a path as key", [V2, storage(5, "../x")], /storage key is "..\/x"/],
  [
    "a number beyond measure",
    [V2, O.LONG4, le(5000, 4)],
    /number has 5000 bytes, expected at most/,
  ],
  [
    "bytes beyond the end",
    [V2, O.BINBYTES8, le(2 ** 40, 8)],
    /truncated: 1099511627776 more bytes/,
  ],
  [
    "items of a tuple as a set",
    [V2, O.EMPTY_TUPLE, O.MARK, O.NONE, O.ADDITEMS],
    /appends to tuple/,
  ],
  ["a program as an object", [V2, global("os", "system")], /global os\.system is refused/],
  ["negative length", [V2, storage(-1)], /storage 0 has no length/],
];

for (const [name, parts, message] of REFUSED) {
  Deno.test(`pickle refuses: ${name}`, () => assert.throws(() => read(...parts), message));
}

Deno.test("plain values of every accepted opcode are read", () => {
  const parts = [
    [O.PROTO, 5, O.FRAME, 0, 0, 0, 0, 0, 0, 0, 0, O.EMPTY_LIST, O.MEMOIZE, O.MARK],
    [O.NONE, O.NEWTRUE, O.NEWFALSE, O.BININT, 254, 255, 255, 255, O.BININT2, 0, 1],
    [O.LONG1, 0, O.LONG1, 2, 0, 128, O.LONG1, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    [
      O.BINFLOAT,
      0x3f,
      0xf8,
      0,
      0,
      0,
      0,
      0,
      0,
      O.SHORT_BINSTRING,
      1,
      "a",
      O.BINSTRING,
      1,
      0,
      0,
      0,
      "b",
    ],
    [O.BINUNICODE, 2, 0, 0, 0, "ü", O.BINUNICODE8, 1, 0, 0, 0, 0, 0, 0, 0, "c"],
    [O.BININT1, 1, O.BININT1, 2, O.TUPLE2, O.BINPUT, 9, O.BINGET, 9, O.LONG_BINPUT, 0, 0, 0, 1],
    [O.LONG_BINGET, 0, 0, 0, 1, O.BININT1, 1, O.BININT1, 2, O.BININT1, 3, O.TUPLE3],
    [O.APPENDS, O.EMPTY_LIST, O.APPEND, O.STOP],
  ];
  const { value, end } = read(...parts, "what follows");
  assert.ok(value instanceof PickleList);
  const inner = new PickleList();
  assert.deepEqual(value.items, [
    ...[null, true, false, -2, 256, 0, -32768, 2n ** 64n, 1.5, "a", "b", "ü", "c"],
    ...[[1, 2], [1, 2], [1, 2], [1, 2, 3], inner],
  ]);
  assert.equal(end, bytesOf(...parts).length);
});

Deno.test("dictionaries, ordered and plain, and the state of ordered ones", () => {
  const { value } = read(
    [V2, global("collections", "OrderedDict"), O.EMPTY_TUPLE, O.REDUCE, O.MARK],
    [text("a"), O.BININT1, 1, O.BININT1, 2, O.EMPTY_DICT, O.SETITEMS, text("c"), O.NONE, O.SETITEM],
    [O.EMPTY_DICT, text("_metadata"), O.NONE, O.SETITEM, O.BUILD, O.STOP],
  );
  const entries: [string | number, unknown][] = [["a", 1], [2, new Map()], ["c", null]];
  assert.deepEqual(value, new Map(entries));
  const old = read(
    [V2, global("collections", "OrderedDict"), O.EMPTY_LIST, O.EMPTY_LIST, O.MARK, text("a")],
    [O.BININT1, 1, O.APPENDS, O.APPEND, O.TUPLE1, O.REDUCE, O.STOP],
  );
  assert.deepEqual(old.value, new Map([["a", 1]]));
});

Deno.test("a view is taken to the last element of its storage", () => {
  const { value } = read(V2, tensor(11, { offset: 1, shape: [2, 3], strides: [7, 1] }), O.STOP);
  assert.ok(value instanceof TensorRef);
  assert.deepEqual([value.offset, value.shape, value.strides], [1, [2, 3], [7, 1]]);
});

Deno.test("nesting, memo and stack without end are refused", () => {
  const many = (...opcodes: number[]) => {
    const bytes = new Uint8Array(2 + 2_000_001 * opcodes.length);
    bytes.set([O.PROTO, 4]);
    for (let i = 2; i < bytes.length; i++) bytes[i] = opcodes[(i - 2) % opcodes.length] ?? 0;
    const meaning = torchMeaning(new Map());
    return () => new PickleReader(bytes, { path: "x.pt", meaning }).read();
  };
  for (const opcodes of [[O.EMPTY_TUPLE, O.MEMOIZE], [O.NONE, O.TUPLE1]]) {
    assert.throws(many(...opcodes), /more than 2000000 operations/);
  }
});

Deno.test("large numbers are read whole, and no more of them than a file of weights has", () => {
  const large = bytesOf(O.LONG4, le(4096, 4), new Uint8Array(4096).fill(0x81));
  const { value } = read(V2, large, O.STOP);
  assert.equal(value, BigInt.asIntN(8 * 4096, BigInt(`0x${"81".repeat(4096)}`)));
  const many = (count: number) => {
    const bytes = new Uint8Array(3 + count * large.length + 2);
    bytes.set([...V2, O.MARK]);
    for (let i = 0; i < count; i++) bytes.set(large, 3 + i * large.length);
    bytes.set([O.TUPLE, O.STOP], bytes.length - 2);
    const meaning = torchMeaning(new Map<string, StorageRef>());
    return new PickleReader(bytes, { path: "x.pt", meaning }).read().value;
  };
  assert.ok(Array.isArray(many(256)));
  assert.throws(
    () => many(257),
    /large numbers take more than 1048576 bytes, at byte/,
  );
});
