import assert from "node:assert/strict";
import { join } from "node:path";
import { float32 } from "../../autodiff/mod.ts";
import { encodeSafetensors, float32ToFloat16 } from "../../models/weights/mod.ts";
import { RewardInputError } from "../errors.ts";
import { loadImageTensor } from "./load_image_tensor.ts";

Deno.test("loadImageTensor() reads one image or a batch, by name where there are several", async () => {
  const folder = await Deno.makeTempDir();
  const path = join(folder, "a.safetensors");
  const data = Float32Array.from({ length: 12 }, (_, i) => i / 16);
  const one = float32(data, [3, 2, 2]);
  await Deno.writeFile(path, encodeSafetensors({ one }));
  assert.deepEqual(await loadImageTensor(path), float32(data, [1, 3, 2, 2]));

  await Deno.writeFile(
    path,
    encodeSafetensors({
      one,
      half: { dtype: "float16", shape: [2, 3, 1, 2], data: float32ToFloat16(data) },
      grey: float32(data, [1, 1, 3, 4]),
      bytes: { dtype: "uint8", shape: [3, 2, 2], data: new Uint8Array(12) },
      nan: float32(data.with(3, NaN), [3, 2, 2]),
    }),
  );
  assert.deepEqual(await loadImageTensor(`${path}#half`), float32(data, [2, 3, 1, 2]));
  const fails = async (reference: string, message: RegExp) => {
    await assert.rejects(loadImageTensor(reference), (error) => {
      assert.ok(error instanceof RewardInputError);
      assert.match(error.message, message);
      return true;
    });
  };
  await fails(path, /has 5 tensors, expected #name of one of/);
  await fails(`${path}#none`, /has no tensor "none"/);
  await fails(`${path}#grey`, /Images have shape \[1, 1, 3, 4\]/);
  await fails(`${path}#bytes`, /#bytes: Tensor has dtype uint8/);
  await fails(`${path}#nan`, /Images hold NaN at \[0, 0, 1, 1\]/);
  await fails(join(folder, "b.safetensors#x"), /b\.safetensors: does not exist/);
  await Deno.remove(folder, { recursive: true });
});
