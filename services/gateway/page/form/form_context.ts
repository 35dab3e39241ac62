import type { Contract } from "../contract.ts";
import type { RunConfig, Services, TrainerDescription } from "../types.ts";
import type { ConfigDraft, FieldPath } from "./config_draft.ts";

/** What the fields of a form share. */
export interface FormContext {
  readonly draft: ConfigDraft;
  readonly contract: Contract;
  readonly trainer: TrainerDescription;
  /** The services as they are now. */
  readonly services: () => Services | undefined;
  /** The configuration with all defaults filled in, of the last plan; undefined where there is none. */
  readonly planned: () => RunConfig | undefined;
  /** What the trainer finds wrong with a field. */
  readonly faultOf: (path: FieldPath) => string;
}

/** A part of a form, in step with the configuration. */
export interface FormPart {
  readonly element: HTMLElement;
  /** Shows the configuration as it is now; what has the focus stays as it is typed. */
  update(): void;
}
