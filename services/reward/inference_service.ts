import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  GRPCInferenceService,
  type ModelInferRequest,
  type ModelInferResponse_InferOutputTensorSchema,
} from "../../proto/mod.ts";
import { type GrpcService, grpcService, type Handlers, StatusError } from "../rpc/mod.ts";
import { encodeValues, type WireDType } from "./_wire_tensor.ts";
import type { Limits } from "./limits.ts";
import type { RewardAdminHost, RewardHost, RewardStatus } from "./reward_host.ts";
import type { RewardRecord } from "./reward_process.ts";
import { rewardErrors, scoreImages } from "./score_images.ts";

const VERSION = "1";
const DTYPES: ReadonlyMap<string, WireDType> = new Map([["FP32", "float32"], ["FP16", "float16"]]);
const OUTPUTS = ["SCORE", "GRADIENT"];
const UTF8 = new TextDecoder("utf-8", { fatal: true });
/** Most bytes that UTF-8 has for one UTF-16 code unit. */
const UTF8_BYTES = 3;

/** What the service is made of. */
export interface InferenceServiceOptions {
  readonly limits: Limits;
  /** Serve the repository methods too, on this host, to callers who show the token. */
  readonly admin?: { readonly host: RewardAdminHost; readonly token: string };
}

/** The Open Inference Protocol over the rewards of a host. */
export function inferenceService(host: RewardHost, options: InferenceServiceOptions): GrpcService {
  const { admin } = options;
  return grpcService(GRPCInferenceService, inferenceHandlers(host, options), {
    mapError: rewardErrors,
    ...(admin && { token: admin.token }),
  });
}

/** The handlers of `inferenceService`, to be called without a port. */
export function inferenceHandlers(
  host: RewardHost,
  { limits, admin }: InferenceServiceOptions,
): Handlers<typeof GRPCInferenceService> {
  const repository = (): RewardAdminHost => {
    if (admin) return admin.host;
    throw new StatusError("UNIMPLEMENTED", "Repository methods are served on the admin port only");
  };
  return {
    serverLive: () => Promise.resolve({ live: true }),

    serverReady: () => Promise.resolve({ ready: host.list().every(isReady) }),

    modelReady({ name, version }) {
      const found = host.list().find((status) => status.name === name);
      return Promise.resolve({ ready: !!found && isReady(found) && isVersion(version) });
    },

    serverMetadata: () =>
      Promise.resolve({
        name: "drtune",
        version: VERSION,
        extensions: admin ? ["model_repository"] : [],
      }),

    // deno-lint-ignore require-await -- a refusal must be a rejection
    async modelMetadata({ name, version }) {
      checkVersion(name, version);
      const { info } = host.get(name);
      const image = { datatype: "FP32", shape: [-1n, 3n, -1n, -1n] };
      return {
        name: info.name,
        versions: [VERSION],
        platform: "drtune_onnxruntime",
        inputs: [
          { name: "IMAGE", ...image },
          ...info.readsPrompt ? [{ name: "PROMPT", datatype: "BYTES", shape: [-1n] }] : [],
        ],
        outputs: [
          { name: "SCORE", datatype: "FP32", shape: [-1n] },
          { name: "GRADIENT", ...image },
        ],
      };
    },

    async modelInfer(request, { signal }) {
      const { modelName, modelVersion, id, outputs, rawInputContents: raw } = request;
      checkVersion(modelName, modelVersion);
      // Whoever asks for what is not here is told so before anything is made of the contents.
      host.get(modelName);
      checkInputs(request);
      const wanted = outputs.length > 0 ? outputs.map(({ name }) => name) : ["SCORE"];
      for (const name of wanted) {
        if (!OUTPUTS.includes(name)) {
          throw invalid(`Output ${JSON.stringify(name)} is unknown, expected SCORE or GRADIENT`);
        }
      }
      const image = imageOf(request);
      const { scores, gradients: [gradient], info } = await scoreImages({
        reward: modelName,
        images: [{ tensor: image }],
        prompts: promptsOf(request, limits),
        gradient: wanted.includes("GRADIENT"),
      }, { host, limits, signal });

      const tensors: Output[] = [];
      const rawOutputs: Uint8Array[] = [];
      for (const name of wanted) {
        const values = name === "GRADIENT" && gradient ? gradient.data : Float32Array.from(scores);
        const dtype = name === "GRADIENT" ? image.dtype : "float32";
        const output = {
          name,
          datatype: dtype === "float32" ? "FP32" : "FP16",
          shape: (name === "GRADIENT" ? image.shape : [scores.length]).map(BigInt),
        };
        if (raw.length > 0) {
          tensors.push(output);
          rawOutputs.push(await encodeValues(values, dtype));
        } else {
          tensors.push({ ...output, contents: { fp32Contents: [...values] } });
        }
      }
      return {
        modelName: info.name,
        modelVersion: VERSION,
        id,
        parameters: {
          digest: { parameterChoice: { case: "stringParam", value: info.digest } },
        },
        outputs: tensors,
        rawOutputContents: rawOutputs,
      };
    },

    // deno-lint-ignore require-await -- a refusal must be a rejection
    async repositoryIndex({ ready }) {
      const found = repository().list().filter((status) => !ready || isReady(status));
      const models = found.map(({ name, state }) => ({
        name,
        version: VERSION,
        state: state === "ready" ? "READY" : state === "loading" ? "LOADING" : "UNAVAILABLE",
        reason: state === "restarting" ? "Its process crashed and is being started again" : "",
      }));
      return { models };
    },

    async repositoryModelLoad({ modelName, parameters }) {
      const { config, ...others } = parameters;
      const [other] = Object.keys(others);
      if (other !== undefined) throw invalid(`Parameter ${JSON.stringify(other)} is unknown`);
      const choice = config?.parameterChoice;
      if (choice && choice.case !== "stringParam") {
        throw invalid("Parameter config is not text, expected a reward's record as JSON");
      }
      await repository().load(modelName, choice && parseRecord(choice.value));
      return {};
    },

    async repositoryModelUnload({ modelName }) {
      await repository().unload(modelName);
      return {};
    },
  };
}

type Output = MessageInitShape<typeof ModelInferResponse_InferOutputTensorSchema>;

function isReady({ state }: RewardStatus): boolean {
  return state === "ready";
}

function isVersion(version: string): boolean {
  return version === "" || version === VERSION;
}

function checkVersion(name: string, version: string): void {
  if (name === "") throw invalid("Request names no model");
  if (isVersion(version)) return;
  throw new StatusError(
    "NOT_FOUND",
    `Version ${version} of ${name} is not here; there is ${VERSION}`,
  );
}

function checkInputs({ inputs, rawInputContents: raw }: ModelInferRequest): void {
  const names = inputs.map(({ name }) => name);
  const unknown = names.find((name) => name !== "IMAGE" && name !== "PROMPT");
  if (unknown !== undefined) {
    throw invalid(`Input ${JSON.stringify(unknown)} is unknown, expected IMAGE and PROMPT`);
  }
  if (new Set(names).size < names.length) throw invalid("An input is given twice");
  if (raw.length > 0 && raw.length !== inputs.length) {
    throw invalid(`Request has ${raw.length} raw contents for ${inputs.length} inputs`);
  }
  if (raw.length > 0 && inputs.some(({ contents }) => contents)) {
    throw invalid("Request has both raw and typed contents, expected one kind");
  }
}

function inputOf({ inputs, rawInputContents }: ModelInferRequest, name: string) {
  const at = inputs.findIndex((input) => input.name === name);
  const input = inputs[at];
  return input && { input, raw: rawInputContents[at], shape: input.shape.map(Number) };
}

function imageOf(request: ModelInferRequest) {
  const found = inputOf(request, "IMAGE");
  if (!found) throw invalid("Input IMAGE is missing");
  const { input, raw, shape } = found;
  const dtype = DTYPES.get(input.datatype);
  if (!dtype) {
    throw invalid(
      `Input IMAGE has datatype ${JSON.stringify(input.datatype)}, expected FP32 or FP16`,
    );
  }
  if (raw) return { dtype, shape, data: raw };
  if (dtype === "float16") throw invalid("Input IMAGE is FP16, which must be raw");
  const values = Float32Array.from(input.contents?.fp32Contents ?? []);
  return { dtype, shape, data: new Uint8Array(values.buffer) };
}

function promptsOf(request: ModelInferRequest, limits: Limits): string[] {
  const found = inputOf(request, "PROMPT");
  if (!found) return [];
  const { input, raw, shape } = found;
  if (input.datatype !== "BYTES") {
    throw invalid(`Input PROMPT has datatype ${JSON.stringify(input.datatype)}, expected BYTES`);
  }
  const elements = raw ? byteElements(raw, limits.maxImages) : input.contents?.bytesContents ?? [];
  if (elements.length > limits.maxImages) throw tooMany(limits.maxImages);
  const expected = shape.reduce((product, size) => product * size, 1);
  if (elements.length !== expected) {
    throw invalid(
      `Input PROMPT has ${elements.length} elements; shape [${shape.join(", ")}] needs ${expected}`,
    );
  }
  return elements.map((bytes, i) => text(bytes, i, limits));
}

/** The elements of raw BYTES: each its length in four bytes, then itself. Millions may be of no length: `most` are made. */
function byteElements(raw: Uint8Array, most: number): Uint8Array[] {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  const elements: Uint8Array[] = [];
  for (let at = 0; at < raw.length;) {
    if (elements.length === most) throw tooMany(most);
    const end = at + 4 <= raw.length ? at + 4 + view.getUint32(at, true) : Infinity;
    if (end > raw.length) throw invalid(`Input PROMPT ends within element ${elements.length}`);
    elements.push(raw.subarray(at + 4, end));
    at = end;
  }
  return elements;
}

function tooMany(most: number): StatusError {
  return invalid(`Input PROMPT has more than ${most} elements, the most images that are taken`);
}

function text(bytes: Uint8Array, index: number, { maxPromptLength }: Limits): string {
  if (bytes.length > UTF8_BYTES * maxPromptLength) {
    throw invalid(
      `Prompt ${index} has ${bytes.length} bytes, more than ${maxPromptLength} characters can have`,
    );
  }
  try {
    return UTF8.decode(bytes);
  } catch {
    throw invalid("Input PROMPT is not UTF-8");
  }
}

function parseRecord(json: string): RewardRecord {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw invalid(
      `Parameter config is not JSON: ${cause instanceof Error ? cause.message : cause}`,
    );
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw invalid("Parameter config is not a JSON object");
  }
  return { ...value };
}

function invalid(message: string): StatusError {
  return new StatusError("INVALID_ARGUMENT", message);
}
