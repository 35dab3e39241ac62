/** Catches the error of a file or folder that is not there, and no other: what cannot be read is not empty. */
export function ifAbsent<T>(value: T): (error: unknown) => T {
  return (error) => {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return value;
    throw error;
  };
}
