import { sizeOf, type Tensor } from "../../autodiff/mod.ts";
import { encodeHeader, headerLength, parseHeader, PREFIX_BYTES } from "./_safetensors_header.ts";
import { bytesOf, tensorOfEntry } from "./_tensor_bytes.ts";

/**
 * Tensors as the bytes of a safetensors file. Equal tensors and metadata give equal bytes, whatever their order.
 * Throws `RangeError` when a tensor's data does not fit its shape or a name is `__metadata__`.
 */
export function encodeSafetensors(
  tensors: Readonly<Record<string, Tensor>>,
  metadata?: Readonly<Record<string, string>>,
): Uint8Array<ArrayBuffer> {
  checkTensors(tensors);
  const { prefixAndHeader, names } = encodeHeader(new Map(Object.entries(tensors)), metadata);
  const parts = names.map((name) => tensors[name]).filter((t) => t !== undefined).map(bytesOf);
  const bytes = new Uint8Array(
    parts.reduce((n, part) => n + part.length, prefixAndHeader.length),
  );
  let at = 0;
  for (const part of [prefixAndHeader, ...parts]) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/**
 * Parses the bytes of a safetensors file, checked as by `openSafetensors`. The tensors do not share memory with
 * `bytes`. `name` is what errors call the source.
 */
export function decodeSafetensors(
  bytes: Uint8Array,
  name = "in memory",
): { tensors: Record<string, Tensor>; metadata: Record<string, string> } {
  const file = { path: name, size: bytes.length };
  const length = headerLength(bytes.subarray(0, PREFIX_BYTES), file);
  const header = parseHeader(bytes.subarray(PREFIX_BYTES, PREFIX_BYTES + length), file);
  const tensors = [...header.tensors].map(([name, entry]) => {
    const { fileOffset, byteLength } = entry;
    const data = new Uint8Array(bytes.subarray(fileOffset, fileOffset + byteLength));
    return [name, tensorOfEntry(entry, data)] as const;
  });
  return {
    tensors: Object.fromEntries(tensors),
    metadata: Object.fromEntries(header.metadata),
  };
}

/** Throws `RangeError` when a tensor cannot be stored. */
export function checkTensors(tensors: Readonly<Record<string, Tensor>>): void {
  for (const [name, { data, shape }] of Object.entries(tensors)) {
    if (name === "__metadata__") {
      throw new RangeError(`Tensor name "__metadata__" is reserved by the safetensors format`);
    }
    if (data.length !== sizeOf(shape)) {
      throw new RangeError(
        `Tensor "${name}" has ${data.length} elements; shape [${shape.join(", ")}] needs ${
          sizeOf(shape)
        }`,
      );
    }
  }
}
