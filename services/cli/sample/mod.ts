export {
  type DrawnImage,
  type ImageRequest,
  localImages,
  type LocalOptions,
} from "./local_images.ts";
