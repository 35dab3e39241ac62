export {
  assertClose,
  float,
  readTensors,
  repositoryPath,
  runOnce,
  withEngine,
  withPrefix,
} from "./support.ts";
