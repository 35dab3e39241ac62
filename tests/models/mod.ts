export { roundingEngine } from "./rounding_engine.ts";
export {
  assertClose,
  float,
  readTensors,
  relativeError,
  repositoryPath,
  runOnce,
  withEngine,
  withPrefix,
} from "./support.ts";
