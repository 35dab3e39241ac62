import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { Buffer } from "node:buffer";
import { mkdir, open, readdir } from "node:fs/promises";
import { join } from "node:path";
import { tensorboard } from "../../../proto/mod.ts";
import { tfRecord } from "./tf_record.ts";

const { EventSchema, SessionLog_SessionStatus: Status } = tensorboard;

/** Names begin like this; readers take the files of a folder in the order of their names. */
const PREFIX = "events.out.tfevents.";

/** An event file of TensorBoard's that is being written, and the only one of its folder that is. */
export class EventFile {
  readonly #path: string;

  private constructor(path: string) {
    this.#path = path;
  }

  /**
   * Begins a file behind those of the folder, which is made where there is none: what an earlier process left half
   * written stays the end of its own file. With `purgeStep`, what earlier files hold from that step on no longer counts.
   */
  static async create(
    folder: string,
    { purgeStep, at }: { readonly purgeStep: number; readonly at: Date },
  ): Promise<{ readonly file: EventFile; readonly first: boolean }> {
    await mkdir(folder, { recursive: true });
    const numbers = (await readdir(folder)).filter((name) => name.startsWith(PREFIX))
      .map((name) => Number(name.slice(PREFIX.length)));
    const next = Math.max(0, ...numbers.filter(Number.isSafeInteger)) + 1;
    const file = new EventFile(join(folder, `${PREFIX}${String(next).padStart(6, "0")}`));
    const wallTime = at.getTime() / 1000;
    await file.write([
      { wallTime, what: { case: "fileVersion", value: "brain.Event:2" } },
      {
        wallTime,
        step: BigInt(purgeStep),
        what: { case: "sessionLog", value: { status: Status.START } },
      },
    ]);
    return { file, first: numbers.length === 0 };
  }

  /** Adds records. They are whole once the promise settles. */
  async write(events: readonly MessageInitShape<typeof EventSchema>[]): Promise<void> {
    const records = events.map((event) =>
      tfRecord(toBinary(EventSchema, create(EventSchema, event)))
    );
    const file = await open(this.#path, "a");
    try {
      await file.appendFile(Buffer.concat(records));
    } finally {
      await file.close();
    }
  }
}
