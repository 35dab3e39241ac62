type Event<In, Out> =
  | { readonly input: IteratorResult<In, unknown> }
  | { readonly output: Out; readonly done: Promise<Event<In, Out>> };

/**
 * Applies `map` to what `inputs` gives, up to `limit` at a time, and yields results as they come, in any order. Reads
 * on only when there is room, and yields what is done while it waits for input. The first failure ends it.
 */
export async function* mapConcurrently<In, Out>(
  inputs: AsyncIterable<In>,
  limit: number,
  map: (input: In) => Promise<Out>,
): AsyncGenerator<Out> {
  const iterator = inputs[Symbol.asyncIterator]();
  /** The next input. Nobody waits for it while `limit` are in work: that it fails then must not end the process. */
  const read = (): Promise<Event<In, Out>> => {
    const event = iterator.next().then((input) => ({ input }));
    event.catch(() => {});
    return event;
  };
  const pending = new Set<Promise<Event<In, Out>>>();
  let next: Promise<Event<In, Out>> | undefined = read();
  while (next || pending.size > 0) {
    const event: Event<In, Out> = await Promise.race(
      next && pending.size < limit ? [...pending, next] : pending,
    );
    if ("output" in event) {
      pending.delete(event.done);
      yield event.output;
    } else if (event.input.done) {
      next = undefined;
    } else {
      const done: Promise<Event<In, Out>> = map(event.input.value)
        .then((output) => ({ output, done }));
      pending.add(done);
      next = read();
    }
  }
}
