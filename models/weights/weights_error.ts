import { cut, InputError } from "../../base/mod.ts";

const MAX_DETAIL = 1000;

/** A weight file that is missing, damaged, hostile, or not of a kind that is read. The message names the file. */
export class WeightsError extends InputError {
  override readonly name = "WeightsError";

  /** `detail` says what was found and what was expected, in lower case, without a full stop. */
  constructor(
    /** The file or folder at fault. */
    readonly path: string,
    detail: string,
    options?: ErrorOptions,
  ) {
    // Names come from the file and may be as long as it.
    super(`Weight file ${path}: ${cut(detail, MAX_DETAIL)}`, options);
  }
}
