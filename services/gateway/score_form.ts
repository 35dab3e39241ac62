import { create } from "@bufbuild/protobuf";
import { Buffer } from "node:buffer";
import { ImageSchema, type ScoreRequest, ScoreRequestSchema } from "../../proto/mod.ts";
import { HttpError } from "./http_error.ts";

/** A form as it was sent. */
export interface ScoreForm {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Its whole content-type, the boundary with it. */
  readonly type: string;
}

/** Reads a form with files into the request that it stands for. Throws `HttpError`. */
export async function readScoreForm({ bytes, type }: ScoreForm): Promise<ScoreRequest> {
  let form: FormData;
  refuseManyParts(bytes);
  try {
    form = await new Response(bytes, { headers: { "content-type": type } }).formData();
  } catch (cause) {
    throw new HttpError("INVALID_ARGUMENT", "Body is not a form", { cause });
  }
  const wrong = (field: string, what: string) =>
    new HttpError("INVALID_ARGUMENT", `Field ${field} ${what}`, { field });
  const images: Promise<Uint8Array>[] = [];
  const prompts: string[] = [];
  let reward = "";
  for (const [field, value] of form) {
    if (field === "image") {
      if (typeof value === "string") throw wrong(field, "is text, expected a PNG or JPEG file");
      images.push(value.bytes());
    } else if (field === "prompt" || field === "reward") {
      if (typeof value !== "string") throw wrong(field, "is a file, expected text");
      if (field === "prompt") prompts.push(value);
      else reward = value;
    } else throw wrong(field, "is not known here, expected one of image, prompt, reward");
  }
  return create(ScoreRequestSchema, {
    reward,
    prompts,
    images: (await Promise.all(images)).map((value) =>
      create(ImageSchema, { source: { case: "encoded", value } })
    ),
  });
}

/** No form of ours has a tenth as many; each costs as much as thousands of bytes. */
const MAX_FORM_PARTS = 1000;

/** Throws where a form begins too many parts: a line that begins with two hyphens may begin one. */
function refuseManyParts(form: Uint8Array): void {
  const bytes = Buffer.from(form.buffer, form.byteOffset, form.byteLength);
  let parts = 0;
  for (let at = -1; (at = bytes.indexOf("\n--", at + 1)) >= 0;) {
    if (++parts <= MAX_FORM_PARTS) continue;
    throw new HttpError("INVALID_ARGUMENT", `Body has more than ${MAX_FORM_PARTS} parts`);
  }
}
