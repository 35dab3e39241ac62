export {
  openOwlVit,
  owlVitLogits,
  type OwlVitModel,
  owlVitPreprocessing,
  owlVitQuery,
  type OwlVitSeen,
  owlVitTopLogit,
} from "./owlvit.ts";
export { parseOwlVitConfig } from "./owlvit_config.ts";
