import { float32 } from "../../autodiff/mod.ts";
import { openSafetensors, toFloat32, WeightsError } from "../../models/weights/mod.ts";
import { checkImages } from "../_check_images.ts";
import { RewardInputError } from "../errors.ts";
import type { Images } from "../reward.ts";

/**
 * Loads images from a tensor of a safetensors file, written as `images.safetensors#name`; the name may be left out where
 * the file has one tensor. Shape [3, H, W] or [B, 3, H, W], a float dtype, RGB in [0, 1]. Throws `RewardInputError`.
 */
export async function loadImageTensor(reference: string): Promise<Images> {
  const hash = reference.indexOf(".safetensors#") + ".safetensors".length;
  const isNamed = reference.includes(".safetensors#");
  const path = isNamed ? reference.slice(0, hash) : reference;
  try {
    const file = openSafetensors(path);
    const names = [...file.tensors.keys()];
    const [first] = names;
    const name = isNamed ? reference.slice(hash + 1) : first;
    if (name === undefined || (!isNamed && names.length > 1)) {
      throw new RewardInputError(
        `${reference} has ${names.length} tensors, expected #name of one of ${names.join(", ")}`,
      );
    }
    const { data, shape } = toFloat32(await file.read(name));
    const images = float32(data, shape.length === 3 ? [1, ...shape] : shape);
    checkImages(images);
    return images;
  } catch (cause) {
    if (!(cause instanceof WeightsError || cause instanceof TypeError)) throw cause;
    throw new RewardInputError(`${reference}: ${cause.message}`, { cause });
  }
}
