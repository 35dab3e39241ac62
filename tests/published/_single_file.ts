import { float32, type TensorOf } from "../../autodiff/mod.ts";

/** Numbers from -1 to 1 by an integer hash, as make_single_files.py makes them. */
export function noise(t: number, count: number): Float64Array {
  return Float64Array.from({ length: count }, (_, i) => {
    let x = (Math.imul(i, 2654435761) + t * 40503 + 12345) | 0;
    for (let round = 0; round < 2; round++) {
      x ^= x >>> 16;
      x = Math.imul(x, 0x45d9f3b);
    }
    x ^= x >>> 16;
    return (x >>> 0) / 2 ** 31 - 1;
  });
}

/** The weights of a checkpoint whose names and shapes are given. */
export function filled(
  shapes: Readonly<Record<string, readonly number[]>>,
): Record<string, TensorOf<"float32">> {
  return Object.fromEntries(
    Object.keys(shapes).sort().map((name, t) => {
      const shape = shapes[name] ?? [];
      const [first = 1, ...rest] = shape;
      const inner = rest.reduce((n, d) => n * d, 1);
      const scale = Math.sqrt(1.7 / inner);
      const data = Float32Array.from(
        noise(t, shape.length === 0 ? 1 : first * inner),
        (v) => shape.length === 1 ? 0.1 * v + (name.endsWith("weight") ? 1 : 0) : v * scale,
      );
      return [name, float32(data, shape)];
    }),
  );
}
