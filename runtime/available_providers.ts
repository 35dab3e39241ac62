import { create, toBinary } from "@bufbuild/protobuf";
import { ModelProtoSchema, TensorProto_DataType, TypeProtoSchema } from "onnx-buf";
import { ChildEngine } from "./child_engine.ts";
import { RuntimeError } from "./errors.ts";
import { type Provider, PROVIDERS } from "./session.ts";

/** Whether an execution provider works on this machine. */
export interface ProviderStatus {
  readonly provider: Provider;
  readonly available: boolean;
  /** When it does not: why, and what to do about it. */
  readonly reason?: string;
  /** Lines its libraries wrote to stderr, which may name what they miss. */
  readonly details: readonly string[];
}

/** Tries every execution provider on a one-node model, each in a process of its own: a driver may well crash. */
export async function availableProviders(): Promise<ProviderStatus[]> {
  return await Promise.all(PROVIDERS.map(async (provider): Promise<ProviderStatus> => {
    const details: string[] = [];
    const onStderr = (line: string) => details.push(line);
    const engine = await ChildEngine.open({ name: provider, onStderr });
    try {
      const session = await engine.load({ bytes: doubling(), name: "probe" }, { provider });
      await session.run({ x: { dtype: "float32", shape: [1], data: Float32Array.of(1) } });
      return { provider, available: true, details };
    } catch (error) {
      if (!(error instanceof RuntimeError)) throw error;
      return { provider, available: false, reason: error.message, details };
    } finally {
      await engine.close();
    }
  }));
}

/** y = x + x for x of shape [1]. */
function doubling(): Uint8Array {
  const type = create(TypeProtoSchema, {
    value: {
      case: "tensorType",
      value: {
        elemType: TensorProto_DataType.FLOAT,
        shape: { dim: [{ value: { case: "dimValue", value: 1n } }] },
      },
    },
  });
  const model = create(ModelProtoSchema, {
    irVersion: 10n,
    opsetImport: [{ version: 20n }],
    graph: {
      name: "probe",
      node: [{ opType: "Add", input: ["x", "x"], output: ["y"] }],
      input: [{ name: "x", type }],
      output: [{ name: "y", type }],
    },
  });
  return toBinary(ModelProtoSchema, model);
}
