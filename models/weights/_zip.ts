import type { ByteRange, WeightFile } from "./_weight_file.ts";
import { WeightsError } from "./weights_error.ts";

const LOCAL_HEADER = 0x04034b50;
const CENTRAL_HEADER = 0x02014b50;
const END = 0x06054b50;
const END_64 = 0x06064b50;
const LOCATOR_64 = 0x07064b50;
const END_BYTES = 22;
const MAX_COMMENT_BYTES = 0xffff;
const MAX_DIRECTORY_BYTES = 16 << 20;

/** Where an entry's data lies in the archive, as stored. */
export interface ZipEntry extends ByteRange {
  /** 0 where the data is stored as it is, as PyTorch stores tensors. */
  readonly method: number;
}

interface DirectoryEntry {
  readonly name: string;
  readonly method: number;
  readonly stored: number;
  readonly headerAt: number;
}

/**
 * Where the entries of a zip archive lie, by name. The archive must be in one file, zip64 or not, its entries
 * unencrypted and without overlap. Nothing is ever inflated, so an archive cannot hold more than its own size.
 * Throws `WeightsError` for everything else.
 */
export function readZipDirectory(file: WeightFile): Map<string, ZipEntry> {
  const fail = (detail: string): never => {
    throw new WeightsError(file.path, `zip archive ${detail}`);
  };
  const { at, size, count } = locateDirectory(file, fail);
  const [directory = new Uint8Array()] = file.readSmall([{ position: at, length: size }]);
  const entries = parseDirectory(directory, fail);
  if (entries.length !== count) {
    fail(`directory has ${entries.length} entries, expected ${count}`);
  }
  entries.sort((a, b) => a.headerAt - b.headerAt);
  return locateData(entries, file, at, fail);
}

function locateDirectory(
  file: WeightFile,
  fail: (detail: string) => never,
): { at: number; size: number; count: number } {
  const tailLength = Math.min(file.size, END_BYTES + MAX_COMMENT_BYTES + 20);
  const tailAt = file.size - tailLength;
  const [tail = new Uint8Array()] = file.readSmall([{ position: tailAt, length: tailLength }]);
  const view = viewOf(tail);
  let end = tailLength - END_BYTES;
  const isEnd = () =>
    view.getUint32(end, true) === END &&
    end + END_BYTES + view.getUint16(end + 20, true) === tailLength;
  while (end >= 0 && !isEnd()) end--;
  if (end < 0) return fail("has no end record: it is truncated or not a zip archive");

  let endAt = tailAt + end;
  let count = view.getUint16(end + 10, true);
  let size = view.getUint32(end + 12, true);
  let at = view.getUint32(end + 16, true);
  const locator = end - 20;
  if (locator >= 0 && view.getUint32(locator, true) === LOCATOR_64) {
    endAt = Number(view.getBigUint64(locator + 8, true));
    if (endAt + 56 > file.size) return fail("has its zip64 end record beyond the file");
    const [record = new Uint8Array()] = file.readSmall([{ position: endAt, length: 56 }]);
    const wide = viewOf(record);
    if (wide.getUint32(0, true) !== END_64) return fail("lacks its zip64 end record");
    count = Number(wide.getBigUint64(32, true));
    size = Number(wide.getBigUint64(40, true));
    at = Number(wide.getBigUint64(48, true));
  }
  if (size > MAX_DIRECTORY_BYTES) {
    return fail(`directory has ${size} bytes, expected at most ${MAX_DIRECTORY_BYTES}`);
  }
  if (at + size > endAt) {
    return fail(`directory ends at byte ${at + size}, expected before its end record at ${endAt}`);
  }
  return { at, size, count };
}

function parseDirectory(directory: Uint8Array, fail: (detail: string) => never): DirectoryEntry[] {
  const view = viewOf(directory);
  const entries: DirectoryEntry[] = [];
  for (let at = 0; at < directory.length;) {
    if (at + 46 > directory.length || view.getUint32(at, true) !== CENTRAL_HEADER) {
      return fail(`directory is damaged at its byte ${at}`);
    }
    const nameLength = view.getUint16(at + 28, true);
    const extraLength = view.getUint16(at + 30, true);
    const nameAt = at + 46;
    const extraAt = nameAt + nameLength;
    const next = extraAt + extraLength + view.getUint16(at + 32, true);
    if (next > directory.length) return fail(`directory is damaged at its byte ${at}`);
    const name = new TextDecoder().decode(directory.subarray(nameAt, extraAt));
    const quoted = JSON.stringify(name);
    if (view.getUint16(at + 8, true) & 1) return fail(`entry ${quoted} is encrypted`);
    const method = view.getUint16(at + 10, true);
    const sizes = [24, 20, 42].map((field) => view.getUint32(at + field, true));
    const extra = directory.subarray(extraAt, extraAt + extraLength);
    const [size, stored, headerAt] = widen(sizes, extra);
    if (size === undefined || stored === undefined || headerAt === undefined) {
      return fail(`entry ${quoted} lacks its zip64 sizes`);
    }
    if (method === 0 && size !== stored) {
      return fail(`entry ${quoted} is stored in ${stored} bytes, expected ${size}`);
    }
    entries.push({ name, method, stored, headerAt });
    at = next;
  }
  return entries;
}

/** Replaces the fields that are all ones by their 64-bit values from the zip64 extra field. */
function widen(fields: readonly number[], extra: Uint8Array): (number | undefined)[] {
  const view = viewOf(extra);
  let wide = extra.length;
  for (let at = 0; at + 4 <= extra.length; at += 4 + view.getUint16(at + 2, true)) {
    if (view.getUint16(at, true) === 1) {
      wide = at + 4;
      break;
    }
  }
  return fields.map((field) => {
    if (field !== 0xffffffff) return field;
    if (wide + 8 > extra.length) return undefined;
    wide += 8;
    return Number(view.getBigUint64(wide - 8, true));
  });
}

/** Reads the header before each entry's data, which alone says where the data begins. */
function locateData(
  entries: readonly DirectoryEntry[],
  file: WeightFile,
  directoryAt: number,
  fail: (detail: string) => never,
): Map<string, ZipEntry> {
  for (const { name, headerAt } of entries) {
    if (headerAt + 30 > directoryAt) {
      return fail(`entry ${JSON.stringify(name)} begins at byte ${headerAt}, beyond the data`);
    }
  }
  const headers = file.readSmall(entries.map((e) => ({ position: e.headerAt, length: 30 })));
  const located = new Map<string, ZipEntry>();
  for (const [i, { name, method, stored, headerAt }] of entries.entries()) {
    const quoted = JSON.stringify(name);
    const view = viewOf(headers[i] ?? new Uint8Array(30));
    if (view.getUint32(0, true) !== LOCAL_HEADER) return fail(`entry ${quoted} lacks its header`);
    const position = headerAt + 30 + view.getUint16(26, true) + view.getUint16(28, true);
    const limit = entries[i + 1]?.headerAt ?? directoryAt;
    if (position + stored > limit) {
      return fail(
        `entry ${quoted} ends at byte ${
          position + stored
        }, beyond byte ${limit} where what follows begins`,
      );
    }
    if (located.has(name)) return fail(`holds entry ${quoted} twice`);
    located.set(name, { position, length: stored, method });
  }
  return located;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
