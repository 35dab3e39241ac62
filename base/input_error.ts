/**
 * Something that was given cannot be used: a field, a file, a text. The message is for whoever gave it. A service tells
 * its caller so; every other error is a fault of the program, and told as one.
 */
export class InputError extends Error {
  override readonly name: string = "InputError";
}
