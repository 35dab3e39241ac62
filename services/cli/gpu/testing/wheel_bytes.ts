import { Buffer } from "node:buffer";
import { crc32, deflateRawSync } from "node:zlib";

/** A zip archive of deflated files, as wheels are. */
export function wheelBytes(files: Readonly<Record<string, Uint8Array>>): Uint8Array<ArrayBuffer> {
  const [bodies, directory]: [Uint8Array[], Uint8Array[]] = [[], []];
  let at = 0;
  for (const [name, data] of Object.entries(files)) {
    const stored = deflateRawSync(data);
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(8, 4);
    common.writeUInt32LE(crc32(data), 10);
    common.writeUInt32LE(stored.length, 14);
    common.writeUInt32LE(data.length, 18);
    common.writeUInt16LE(name.length, 22);
    const local = Buffer.concat([Buffer.from("PK\x03\x04"), common, Buffer.from(name), stored]);
    const rest = Buffer.alloc(14);
    rest.writeUInt32LE(at, 10);
    const made = Buffer.from(Uint8Array.of(20, 0));
    directory.push(
      Buffer.concat([Buffer.from("PK\x01\x02"), made, common, rest, Buffer.from(name)]),
    );
    bodies.push(local);
    at += local.length;
  }
  const end = Buffer.alloc(18);
  end.writeUInt16LE(directory.length, 4);
  end.writeUInt16LE(directory.length, 6);
  end.writeUInt32LE(Buffer.concat(directory).length, 8);
  end.writeUInt32LE(at, 12);
  return new Uint8Array(Buffer.concat([...bodies, ...directory, Buffer.from("PK\x05\x06"), end]));
}
