import { BYTES_PER_ELEMENT, sizeOf, type Tensor } from "../autodiff/mod.ts";
import { RuntimeError } from "./errors.ts";

/** Throws `RuntimeError` "feed_invalid", beginning with `what`, unless the data fills the shape. */
export function checkTensor(what: string, { dtype, shape, data }: Tensor): void {
  const text = `[${shape.join(", ")}]`;
  if (!shape.every((size) => Number.isSafeInteger(size) && size >= 0)) {
    throw new RuntimeError("feed_invalid", `${what} has shape ${text}, expected whole numbers`);
  }
  const expected = sizeOf(shape) * BYTES_PER_ELEMENT[dtype];
  if (data.byteLength !== expected) {
    throw new RuntimeError(
      "feed_invalid",
      `${what} has ${data.byteLength} bytes of data, expected ${expected} for ${dtype} ${text}`,
    );
  }
}
