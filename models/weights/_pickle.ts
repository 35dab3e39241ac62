import { OPCODES, REFUSED_OPCODES } from "./_pickle_opcodes.ts";
import {
  type Fail,
  isTuple,
  kindOf,
  type PickleDict,
  PickleGlobal,
  PickleInert,
  PickleList,
  type PickleTuple,
  type PickleValue,
  setItem,
} from "./_pickle_values.ts";
import { WeightsError } from "./weights_error.ts";

/**
 * Most opcodes that one pickle may hold. A tensor takes about 40. As an opcode creates at most one object, this
 * bounds stack, memo, nesting and memory too.
 */
const MAX_OPERATIONS = 2_000_000;

/** Most bytes of a number, as seeds have thousands of bits, and of all such: one takes time to be written as text. */
const [MAX_LONG_BYTES, MAX_ALL_LONG_BYTES] = [4096, 2 ** 20];

/** What the names and ids in a pickle stand for. Each may refuse by calling `fail`. */
export interface PickleMeaning {
  isKnown(globalName: string): boolean;
  call(name: string, args: PickleTuple, fail: Fail): PickleValue;
  persistent(id: PickleTuple, fail: Fail): PickleValue;
  /** Whether a class is one whose objects are nothing but their attributes. Default: none is. */
  isRecord?(globalName: string): boolean;
  /** Whether objects of a class say nothing about tensors, so that they are passed over. */
  isInert(globalName: string): boolean;
}

/**
 * Interprets the subset of pickle, protocols 2 to 5, that tensors and plain containers need. Nothing is imported,
 * constructed or called but what `meaning` knows; every other opcode or global is refused with a `WeightsError` that
 * names it and its byte position. One pass, one step per opcode.
 */
export class PickleReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #path: string;
  readonly #meaning: PickleMeaning;
  readonly #stack: PickleValue[] = [];
  readonly #marks: number[] = [];
  readonly #memo = new Map<number, PickleValue>();
  readonly #records = new Set<PickleValue>();
  #longBytes = 0;
  #at: number;
  #opcodeAt: number;

  constructor(
    bytes: Uint8Array,
    { path, meaning, start = 0 }: { path: string; meaning: PickleMeaning; start?: number },
  ) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#path = path;
    this.#meaning = meaning;
    this.#at = this.#opcodeAt = start;
  }

  /** The value, and the position just behind the pickle. */
  read(): { value: PickleValue; end: number } {
    if (this.#u8() !== OPCODES.PROTO) this.#fail("pickle does not begin with its protocol");
    this.#at = this.#opcodeAt;
    for (let operations = 0; operations < MAX_OPERATIONS; operations++) {
      this.#opcodeAt = this.#at;
      const opcode = this.#u8();
      if (opcode === OPCODES.STOP) {
        const [value, ...rest] = this.#stack;
        if (value === undefined || rest.length > 0 || this.#marks.length > 0) {
          return this.#fail(`pickle stops with ${this.#stack.length} values, expected 1`);
        }
        return { value, end: this.#at };
      }
      this.#step(opcode);
    }
    return this.#fail(`pickle has more than ${MAX_OPERATIONS} operations`);
  }

  #step(opcode: number): void {
    switch (opcode) {
      case OPCODES.PROTO: {
        const protocol = this.#u8();
        if (protocol < 2 || protocol > 5) {
          this.#fail(`pickle protocol is ${protocol}, expected 2 to 5`);
        }
        return;
      }
      case OPCODES.FRAME:
        // Frames only help buffered readers; the length is checked, the content is read as it comes.
        if (this.#u64() > this.#bytes.length - this.#at) {
          this.#fail("frame is longer than the file");
        }
        return;
      case OPCODES.MARK:
        this.#marks.push(this.#stack.length);
        return;
      case OPCODES.NONE:
        return this.#push(null);
      case OPCODES.NEWTRUE:
        return this.#push(true);
      case OPCODES.NEWFALSE:
        return this.#push(false);
      case OPCODES.BININT:
        return this.#push(this.#view.getInt32(this.#take(4), true));
      case OPCODES.BININT1:
        return this.#push(this.#u8());
      case OPCODES.BININT2:
        return this.#push(this.#view.getUint16(this.#take(2), true));
      case OPCODES.LONG1:
        return this.#push(this.#long(this.#u8()));
      case OPCODES.LONG4: {
        const length = this.#u32();
        if (length > MAX_LONG_BYTES) {
          return this.#fail(`number has ${length} bytes, expected at most ${MAX_LONG_BYTES}`);
        }
        return this.#push(this.#long(length));
      }
      case OPCODES.BINFLOAT:
        return this.#push(this.#view.getFloat64(this.#take(8)));
      case OPCODES.SHORT_BINSTRING:
      case OPCODES.SHORT_BINUNICODE:
        return this.#push(this.#text(this.#u8()));
      case OPCODES.BINSTRING:
      case OPCODES.BINUNICODE:
        return this.#push(this.#text(this.#u32()));
      case OPCODES.BINUNICODE8:
        return this.#push(this.#text(this.#u64()));
      case OPCODES.SHORT_BINBYTES:
        return this.#push(this.#octets(this.#u8()));
      case OPCODES.BINBYTES:
        return this.#push(this.#octets(this.#u32()));
      case OPCODES.BINBYTES8:
      case OPCODES.BYTEARRAY8:
        return this.#push(this.#octets(this.#u64()));
      case OPCODES.EMPTY_LIST:
      case OPCODES.EMPTY_SET:
        return this.#push(new PickleList());
      case OPCODES.FROZENSET: {
        const values = this.#popMark();
        this.#push(new PickleList());
        return this.#append(values);
      }
      case OPCODES.APPEND:
        return this.#append([this.#pop()]);
      case OPCODES.APPENDS:
      case OPCODES.ADDITEMS:
        return this.#append(this.#popMark());
      case OPCODES.EMPTY_TUPLE:
        return this.#push([]);
      case OPCODES.TUPLE:
        return this.#push(this.#popMark());
      case OPCODES.TUPLE1:
        return this.#push([this.#pop()]);
      case OPCODES.TUPLE2: {
        const [b, a] = [this.#pop(), this.#pop()];
        return this.#push([a, b]);
      }
      case OPCODES.TUPLE3: {
        const [c, b, a] = [this.#pop(), this.#pop(), this.#pop()];
        return this.#push([a, b, c]);
      }
      case OPCODES.EMPTY_DICT:
        return this.#push(new Map());
      case OPCODES.SETITEM: {
        const [value, key] = [this.#pop(), this.#pop()];
        return this.#setItems([key, value]);
      }
      case OPCODES.SETITEMS:
        return this.#setItems(this.#popMark());
      // A tuple that holds itself is made twice, and the first one taken away.
      case OPCODES.POP:
        this.#pop();
        return;
      case OPCODES.POP_MARK:
        this.#popMark();
        return;
      case OPCODES.BINPUT:
        return this.#remember(this.#u8());
      case OPCODES.LONG_BINPUT:
        return this.#remember(this.#u32());
      case OPCODES.MEMOIZE:
        return this.#remember(this.#memo.size);
      case OPCODES.BINGET:
        return this.#recall(this.#u8());
      case OPCODES.LONG_BINGET:
        return this.#recall(this.#u32());
      case OPCODES.GLOBAL:
        return this.#global(this.#line(), this.#line());
      case OPCODES.STACK_GLOBAL: {
        const [name, module] = [this.#pop(), this.#pop()];
        if (typeof name !== "string" || typeof module !== "string") {
          return this.#fail(
            `STACK_GLOBAL names ${kindOf(module)} and ${kindOf(name)}, not strings`,
          );
        }
        return this.#global(module, name);
      }
      case OPCODES.REDUCE: {
        const [args, callee] = [this.#pop(), this.#pop()];
        if (!(callee instanceof PickleGlobal) || !isTuple(args)) {
          return this.#fail(`REDUCE calls ${kindOf(callee)} with ${kindOf(args)}`);
        }
        if (this.#meaning.isInert(callee.name)) return this.#push(new PickleInert(callee.name));
        return this.#push(this.#meaning.call(callee.name, args, this.#fail));
      }
      case OPCODES.NEWOBJ: {
        const [args, callee] = [this.#pop(), this.#pop()];
        return this.#newObject(callee, args);
      }
      case OPCODES.NEWOBJ_EX: {
        const [, args, callee] = [this.#pop(), this.#pop(), this.#pop()];
        return this.#newObject(callee, args);
      }
      case OPCODES.BUILD:
        return this.#build(this.#pop(), this.#top());
      case OPCODES.BINPERSID: {
        const id = this.#pop();
        if (!isTuple(id)) return this.#fail(`persistent id is ${kindOf(id)}, expected a tuple`);
        return this.#push(this.#meaning.persistent(id, this.#fail));
      }
      default: {
        const name = REFUSED_OPCODES[opcode];
        const hex = `0x${opcode.toString(16).padStart(2, "0")}`;
        return this.#fail(
          name
            ? `opcode ${name} (${hex}) is refused: tensors do not need it`
            : `${hex} is no opcode`,
        );
      }
    }
  }

  #newObject(callee: PickleValue, args: PickleValue): void {
    if (callee instanceof PickleGlobal && isTuple(args)) {
      const { name } = callee;
      if (this.#meaning.isInert(name)) return this.#push(new PickleInert(name));
      if (this.#meaning.isRecord?.(name) === true && args.length === 0) {
        const record: PickleDict = new Map();
        this.#records.add(record);
        return this.#push(record);
      }
    }
    return this.#fail(`NEWOBJ makes ${kindOf(callee)}, which tensors do not need`);
  }

  /** Sets the attributes of an object. */
  #build(state: PickleValue, target: PickleValue): void {
    if (target instanceof PickleInert) return;
    if (!(target instanceof Map)) return this.#fail(`BUILD sets state of ${kindOf(target)}`);
    // State dicts carry version numbers as an attribute, which say nothing about the tensors.
    if (!this.#records.has(target)) return;
    if (!(state instanceof Map)) {
      return this.#fail(`BUILD gives an object ${kindOf(state)}, expected its attributes`);
    }
    for (const [key, value] of state) setItem(target, key, value, this.#fail);
  }

  /** An arrow function, as it is handed out. */
  readonly #fail: Fail = (detail) => {
    throw new WeightsError(this.#path, `${detail}, at byte ${this.#opcodeAt} of the pickle`);
  };

  #take(count: number): number {
    if (count > this.#bytes.length - this.#at) {
      const left = this.#bytes.length - this.#at;
      this.#fail(`pickle is truncated: ${count} more bytes expected, ${left} left`);
    }
    const from = this.#at;
    this.#at += count;
    return from;
  }

  #u8(): number {
    return this.#view.getUint8(this.#take(1));
  }

  #u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  #u64(): number {
    // Inexact beyond 2^53, which is still larger than any file.
    return Number(this.#view.getBigUint64(this.#take(8), true));
  }

  #long(byteLength: number): number | bigint {
    const from = this.#take(byteLength);
    if (byteLength === 0) return 0;
    if (byteLength > 8 && (this.#longBytes += byteLength) > MAX_ALL_LONG_BYTES) {
      return this.#fail(`large numbers take more than ${MAX_ALL_LONG_BYTES} bytes`);
    }
    // In one step: shifting by a byte at a time would copy all of it each time.
    const hex = this.#bytes.slice(from, from + byteLength).reverse().toHex();
    return narrow(BigInt.asIntN(8 * byteLength, BigInt(`0x${hex}`)));
  }

  #text(byteLength: number): string {
    const from = this.#take(byteLength);
    return this.#decode(this.#bytes.subarray(from, from + byteLength));
  }

  /** Python's bytes, a character each: nothing here needs more of them than that they are equal or not. */
  #octets(byteLength: number): string {
    const from = this.#take(byteLength);
    return LATIN1.decode(this.#bytes.subarray(from, from + byteLength));
  }

  #line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#at);
    if (end < 0) this.#fail("pickle is truncated inside a name");
    const from = this.#take(end + 1 - this.#at);
    return this.#decode(this.#bytes.subarray(from, end));
  }

  #decode(bytes: Uint8Array): string {
    try {
      return UTF8.decode(bytes);
    } catch {
      return this.#fail("text is not valid UTF-8");
    }
  }

  #push(value: PickleValue): void {
    this.#stack.push(value);
  }

  #top(): PickleValue {
    const value = this.#stack.at(-1);
    if (value === undefined || this.#stack.length === this.#marks.at(-1)) {
      return this.#fail("pickle takes a value where there is none");
    }
    return value;
  }

  #pop(): PickleValue {
    const value = this.#top();
    this.#stack.pop();
    return value;
  }

  #popMark(): PickleValue[] {
    const mark = this.#marks.pop();
    return mark === undefined ? this.#fail("pickle lacks a MARK") : this.#stack.splice(mark);
  }

  #append(values: readonly PickleValue[]): void {
    const list = this.#top();
    if (list instanceof PickleInert) return;
    if (!(list instanceof PickleList)) return this.#fail(`pickle appends to ${kindOf(list)}`);
    for (const value of values) list.items.push(value);
  }

  #setItems(keysAndValues: readonly PickleValue[]): void {
    const dict = this.#top();
    if (dict instanceof PickleInert) return;
    if (!(dict instanceof Map)) return this.#fail(`pickle sets items of ${kindOf(dict)}`);
    if (keysAndValues.length % 2 !== 0) this.#fail("pickle sets a key without a value");
    for (let i = 0; i < keysAndValues.length; i += 2) {
      setItem(dict, keysAndValues[i], keysAndValues[i + 1], this.#fail);
    }
  }

  #remember(index: number): void {
    this.#memo.set(index, this.#top());
  }

  #recall(index: number): void {
    const value = this.#memo.get(index);
    if (value === undefined) return this.#fail(`pickle recalls memo ${index}, which was never set`);
    this.#push(value);
  }

  #global(module: string, name: string): void {
    const full = `${module}.${name}`;
    if (!this.#meaning.isKnown(full)) {
      return this.#fail(
        `global ${full} is refused: only tensors, numbers, text and plain containers are read ` +
          `(of a pickled model, save its state_dict() instead)`,
      );
    }
    this.#push(new PickleGlobal(full));
  }
}

const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const LATIN1 = new TextDecoder("latin1");

function narrow(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
