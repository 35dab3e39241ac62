/** The promise's outcome, or undefined when it takes longer than this. The work itself goes on. */
export async function orSilence<T>(promise: Promise<T>, ms: number): Promise<T | undefined> {
  const silence = Promise.withResolvers<undefined>();
  const timer = setTimeout(silence.resolve, ms);
  try {
    return await Promise.race([promise, silence.promise]);
  } finally {
    clearTimeout(timer);
  }
}
