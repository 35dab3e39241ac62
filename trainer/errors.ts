import { InputError } from "../base/mod.ts";

/** A value in a configuration is wrong. */
export class FieldError extends InputError {
  override readonly name: string = "FieldError";
  /** Path of the field, as "method.k". */
  readonly field: string;

  /** `detail` says what was found and what was expected, as "is 60, expected 1 to 50". */
  constructor(field: string, detail: string, options: ErrorOptions & { file?: string } = {}) {
    super(`Field ${field}${options.file ? ` of ${options.file}` : ""} ${detail}`, options);
    this.field = field;
  }
}

/** A configuration names a file or folder that is not there. */
export class MissingFileError extends FieldError {
  override readonly name = "MissingFileError";
}
