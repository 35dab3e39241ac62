/**
 * The process of a `ChildEngine`: answers the requests on stdin, one after another, on stdout. It ends with stdin,
 * so also when the parent dies.
 */
import { readStdin, writeStdout } from "./_blocking_stdio.ts";
import { encodeFrame, type Frame, readFrame } from "./_frames.ts";
import { type Reply, type Request, requestSchema, type SentPlace } from "./_messages.ts";
import { RuntimeError } from "./errors.ts";
import { InProcessEngine } from "./in_process_engine.ts";
import type { Feed, Place, Session } from "./session.ts";
import type { Tensor } from "../autodiff/mod.ts";

const engine = new InProcessEngine();
const sessions = new Map<number, Session>();
let lastSession = 0;
/** Places by the number that the parent gave them; those it forgot are gone. */
const places = new Map<number, Place>();

// Ctrl-C reaches the whole group of processes; what to do about it is the parent's to decide.
Deno.addSignalListener("SIGINT", () => {});

for (let frame = await readFrame(readStdin); frame; frame = await readFrame(readStdin)) {
  for (const chunk of await answer(frame)) writeStdout(chunk);
}
Deno.exit();

async function answer({ message, tensors }: Frame): Promise<Uint8Array[]> {
  try {
    return encodeFrame(await handle(requestSchema.parse(message), tensors));
  } catch (error) {
    const code = error instanceof RuntimeError ? error.code : "run_failed";
    const message = error instanceof Error ? error.message : String(error);
    return encodeFrame(reply({ error: { code, message } }));
  }
}

async function handle(request: Request, tensors: readonly Tensor[]): Promise<Frame> {
  switch (request.op) {
    case "ping":
      return reply({});
    case "cpu":
      return reply({ cpuSeconds: await engine.cpuSeconds() });
    case "load": {
      const [bytes] = tensors;
      if (bytes?.dtype !== "uint8") throw new TypeError("Request has no model");
      const { name, weightsRoot, options } = request;
      const session = await engine.load({
        bytes: bytes.data,
        ...(name !== undefined && { name }),
        ...(weightsRoot !== undefined && { weightsRoot }),
      }, options);
      sessions.set(++lastSession, session);
      const { inputNames, outputNames } = session;
      return reply({
        loaded: {
          session: lastSession,
          inputNames: [...inputNames],
          outputNames: [...outputNames],
        },
      });
    }
    case "run": {
      const session = sessions.get(request.session);
      if (!session) throw new RuntimeError("closed", "The session is disposed");
      const feeds = Object.fromEntries<Feed>(
        request.kept.map(([input, place]) => [input, placeOf(place)]),
      );
      request.sent.forEach((input, i) => {
        const tensor = tensors[i];
        if (tensor) feeds[input] = tensor;
      });
      const keep = Object.fromEntries(
        request.keep.map(([output, place]) => [output, placeOf(place)]),
      );
      const outputs = await session.run(feeds, request.fetches, { keep });
      return reply({ names: Object.keys(outputs) }, Object.values(outputs));
    }
    case "dispose":
      await sessions.get(request.session)?.dispose();
      sessions.delete(request.session);
      return reply({});
    case "keep": {
      const [tensor] = tensors;
      if (!tensor) throw new TypeError("Request has no tensor");
      await engine.keep(placeOf(request.place), tensor);
      return reply({});
    }
    case "forget":
      await engine.forget(...request.places.map(placeOf));
      for (const { id } of request.places) places.delete(id);
      return reply({});
  }
}

function placeOf({ id, name }: SentPlace): Place {
  const place = places.get(id) ?? engine.place(name);
  places.set(id, place);
  return place;
}

function reply(message: Reply, tensors: readonly Tensor[] = []): Frame {
  return { message, tensors };
}
