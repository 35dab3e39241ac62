import assert from "node:assert/strict";
import { createLogger } from "../../base/mod.ts";
import { BlobKeeper, connectNats, fetchBlob } from "../../services/cluster/mod.ts";
import { natsTest } from "./_nats_test.ts";

const log = createLogger({ level: "silent" });

natsTest(
  "A blob arrives whole, across a restart of NATS too, and one that is another is refused",
  async (server) => {
    const connect = (name: string) => connectNats({ servers: [server.address] }, { name, log });
    const [owner, reader] = await Promise.all([connect("owner"), connect("reader")]);
    const keeper = new BlobKeeper(owner);
    const bytes = Uint8Array.from({ length: 5_000_001 }, (_, i) => (i * i) % 251);
    const blob = await keeper.keep(bytes);
    assert.deepEqual(await fetchBlob(reader, blob), bytes);
    const empty = await keeper.keep(new Uint8Array());
    assert.equal((await fetchBlob(reader, empty)).length, 0);

    await server.kill();
    const fetching = fetchBlob(reader, blob);
    await server.start();
    assert.deepEqual(await fetching, bytes);

    const rejects = (wrong: Partial<typeof blob>, message: RegExp) =>
      assert.rejects(fetchBlob(reader, { ...blob, ...wrong }), { name: "BlobError", message });
    // Bytes that its owner changed, against the contract, no longer have the digest.
    bytes[4_000_000] = (bytes[4_000_000] ?? 0) ^ 1;
    await rejects({}, /^Blob [0-9a-f]{64} has sha256 [0-9a-f]{64}$/);
    await rejects({ size: blob.size + 1n }, /has it no more$/);
    await rejects({ size: -1n }, /^Blob .* has -1 bytes, expected 0 to 4294967296$/);
    keeper.drop(blob);
    await rejects({}, /has it no more$/);
    const given = new AbortController();
    given.abort(new Error("Given up"));
    await assert.rejects(fetchBlob(reader, blob, { signal: given.signal }), {
      message: "Given up",
    });
    await owner.close();
    await rejects({}, /its owner does not answer$/);
    await reader.close();
  },
);

natsTest(
  "A question that is none ends no connection, and a size above what is expected is refused",
  async (server) => {
    const connect = (name: string) => connectNats({ servers: [server.address] }, { name, log });
    const [owner, stranger] = await Promise.all([connect("owner"), connect("stranger")]);
    const bytes = new Uint8Array(2 ** 20).fill(7);
    const blob = await new BlobKeeper(owner).keep(bytes);
    for (const garbage of [Uint8Array.of(255), new Uint8Array(2 ** 19).fill(255)]) {
      stranger.publish(blob.subject, garbage, { reply: "nobody" });
    }
    await stranger.flush();
    assert.deepEqual(await fetchBlob(stranger, blob), bytes);
    assert.equal(owner.isClosed(), false);
    await assert.rejects(fetchBlob(stranger, blob, { maxBytes: 2 ** 19 }), {
      message: /has 1048576 bytes, expected 0 to 524288$/,
    });
    await Promise.all([owner.close(), stranger.close()]);
  },
);
