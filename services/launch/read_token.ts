import { InputError } from "../../base/mod.ts";

/**
 * Reads a token: the first line of a file, at least 16 characters that go into a header. Throws an `InputError` that says
 * what is wrong with the file, never what is in it.
 */
export async function readToken(path: string): Promise<string> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (cause) {
    const what = cause instanceof Error ? cause.message : String(cause);
    throw new InputError(`Token file ${path} cannot be read: ${what}`, { cause });
  }
  const token = text.split("\n", 1)[0]?.trim() ?? "";
  if (token.length < 16 || !/^[\x21-\x7e]+$/.test(token)) {
    throw new InputError(
      `Token in ${path} has ${token.length} characters, expected at least 16 of ASCII without spaces`,
    );
  }
  return token;
}
