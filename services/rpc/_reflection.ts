import { type DescFile, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { ReflectionService } from "@grpc/reflection";
import { Buffer } from "node:buffer";
import type { GrpcService } from "./grpc_service.ts";

/** Server reflection (v1 and v1alpha) for these services. */
export function reflection(services: readonly GrpcService[]): ReflectionService {
  const files = new Set<DescFile>();
  const add = (file: DescFile) => {
    if (files.has(file)) return;
    files.add(file);
    file.dependencies.forEach(add);
  };
  for (const { descriptor } of services) add(descriptor.file);
  const fileDescriptorProtos = [...files].map((file) =>
    Buffer.from(toBinary(FileDescriptorProtoSchema, file.proto))
  );
  // The library takes the file descriptors of any definition, and reads nothing else of it.
  const format = "Protocol Buffer 3 EnumDescriptorProto";
  return new ReflectionService({ files: { format, type: {}, fileDescriptorProtos } }, {
    services: services.map(({ descriptor }) => descriptor.typeName),
  });
}
