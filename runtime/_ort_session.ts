import * as ort from "onnxruntime-node";
import { type DType, type Tensor, tensorOver } from "../autodiff/mod.ts";
import { isDType } from "./_tensor_bytes.ts";
import { loadCudaLibraries } from "./cuda_libraries.ts";
import { RuntimeError } from "./errors.ts";
import type { Provider, SessionOptions, Tensors } from "./session.ts";

/** The declared type of an input or output. A dimension is a size, or the name of one that may vary. */
export interface ValueType {
  readonly name: string;
  readonly dtype: DType;
  /** Also empty when the model declares no shape. */
  readonly shape: readonly (number | string)[];
}

/** An ONNX Runtime session in our types; checks nothing of what is fed. The only place that knows the binding. */
export class OrtSession {
  readonly inputs: readonly ValueType[];
  readonly outputNames: readonly string[];
  readonly #session: ort.InferenceSession;

  private constructor(session: ort.InferenceSession) {
    this.inputs = session.inputMetadata.map(valueType);
    this.outputNames = session.outputMetadata.map((value) => valueType(value).name);
    this.#session = session;
  }

  /** Creates a session of the model called `name`, whose external data lies in `weightsRoot`. */
  static async create(
    bytes: Uint8Array,
    { name, weightsRoot, ...options }: SessionOptions & {
      readonly name: string;
      readonly weightsRoot: string | undefined;
    },
  ): Promise<OrtSession> {
    const { provider = "cpu", intraOpNumThreads } = options;
    let session: ort.InferenceSession | undefined;
    try {
      if (provider === "cuda") loadCudaLibraries();
      session = await ort.InferenceSession.create(bytes, {
        executionProviders: [provider],
        graphOptimizationLevel: options.graphOptimizationLevel ?? "all",
        logSeverityLevel: LOG_FATAL,
        ...(intraOpNumThreads !== undefined && { intraOpNumThreads }),
        // With it ONNX Runtime takes one block for all buffers of the first run, beside what that run took, and keeps both.
        enableMemPattern: false,
        enableCpuMemArena: options.keepMemory ?? true,
        // Keys of onnxruntime_session_options_config_keys.h. The folder makes a model loaded from bytes find
        // its external data as one loaded from a file would: mapped, wherever in the file it lies.
        extra: {
          // GPUs sum in whatever order their threads finish, where it is faster and nobody asks for the same each time.
          "session.use_deterministic_compute": "1",
          "session.intra_op.allow_spinning": options.allowSpinning ? "1" : "0",
          "session.disable_prepacking": options.prepackWeights ?? true ? "0" : "1",
          ...(options.foldConstants === false &&
            { "optimization.disable_specified_optimizers": "ConstantFolding" }),
          ...(weightsRoot !== undefined &&
            { "session.model_external_initializers_file_folder_path": weightsRoot }),
        },
      });
      return new OrtSession(session);
    } catch (cause) {
      await session?.release();
      if (cause instanceof RuntimeError) throw cause;
      const reason = cause instanceof Error ? cause.message.trim() : String(cause);
      throw NO_PROVIDER.test(reason)
        ? new RuntimeError(
          "provider_unavailable",
          `Execution provider '${provider}' is not available: ${ADVICE[provider]} (${reason})`,
          { cause },
        )
        : new RuntimeError("model_invalid", `Model '${name}' cannot be loaded: ${reason}`, {
          cause,
        });
    }
  }

  /** Runs the model; blocks the thread. The outputs are the caller's. */
  async run(feeds: Tensors, fetches: readonly string[]): Promise<Tensors> {
    const values = await this.#session.run(mapValues(feeds, toOrt), fetches);
    return mapValues(values, ({ type, dims, data }) => {
      if (!isDType(type) || !ArrayBuffer.isView(data)) {
        throw new TypeError(`Output has type ${type}, which a tensor here cannot hold`);
      }
      return tensorOver({ dtype: type, shape: dims }, data);
    });
  }

  async release(): Promise<void> {
    await this.#session.release();
  }
}

/** Errors are thrown; printing them too only confuses. */
const LOG_FATAL = 4;

const NO_PROVIDER =
  /AppendExecutionProvider|WebGPU adapter|backend not found|CUDA-capable device|CUDA driver version/;

const ADVICE: Readonly<Record<Provider, string>> = {
  cpu: "onnxruntime-node was built without it",
  webgpu:
    "it needs a GPU with a Vulkan (Linux), D3D12 (Windows) or Metal (macOS) driver; use 'cpu' otherwise",
  cuda:
    "it needs an NVIDIA GPU on Linux, and what `drtune gpu setup` brings (docs/gpu.md); use 'webgpu' or 'cpu' otherwise",
};

function valueType(value: ort.InferenceSession.ValueMetadata): ValueType {
  if (!value.isTensor || !isDType(value.type)) {
    const type = value.isTensor ? value.type : "no tensor";
    throw new RuntimeError(
      "model_invalid",
      `Model takes or returns '${value.name}', which is ${type}; tensors here cannot hold it`,
    );
  }
  return { name: value.name, dtype: value.type, shape: value.shape };
}

function toOrt({ dtype, shape, data }: Tensor): ort.Tensor {
  if (dtype === "bfloat16") throw new TypeError("The binding has no bfloat16 tensors");
  if (dtype !== "float16") return new ort.Tensor(dtype, data, shape);
  // Asked for float16, it would view the bits as a Float16Array, which Deno's Node-API passes on as empty.
  return Object.defineProperty(new ort.Tensor("uint16", data, shape), "type", { value: dtype });
}

function mapValues<T, U>(
  record: Readonly<Record<string, T>>,
  map: (value: T) => U,
): Record<string, U> {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name, map(value)]));
}
