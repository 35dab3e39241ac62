import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { CUDA_LIBRARIES, CUDA_PROVIDER } from "../../../runtime/mod.ts";
import { withFolder } from "../../../tests/support/mod.ts";
import { CUDA_WHEELS, type CudaWheel } from "./cuda_wheels.ts";
import { installCuda } from "./install_cuda.ts";
import { wheelBytes } from "./testing/wheel_bytes.ts";

const LARGE = crypto.getRandomValues(new Uint8Array(30_000));

const FILES: Readonly<Record<string, Uint8Array<ArrayBuffer>>> = {
  "runtime-1.whl": wheelBytes({
    [`any/capi/${CUDA_PROVIDER[0]}`]: LARGE,
    [`any/capi/${CUDA_PROVIDER[1]}`]: LARGE.slice(1),
    "any/setup.py": new TextEncoder().encode("raise SystemExit"),
  }),
  "cuda-2.whl": wheelBytes({
    "nvidia/lib/libcudart.so.13": LARGE,
    "nvidia/lib/libcublas.so.13": LARGE,
  }),
};
const wheelOf = (file: string): CudaWheel => ({
  project: file.split("-")[0] ?? "",
  version: "1",
  file,
  sha256: createHash("sha256").update(FILES[file] ?? "").digest("hex"),
  members: /^lib[\w.]+\.so[\d.]*$/,
});
const WHEELS = Object.keys(FILES).map(wheelOf);

/** An index of those wheels, with addresses relative to its pages, as mirrors have them. */
function startIndex({ cut = 0 }: { readonly cut?: number } = {}) {
  const seen: string[] = [];
  let left = cut;
  const server = Deno.serve({
    port: 0,
    hostname: "127.0.0.1",
    onListen: () => {},
    onError: () => new Response(null, { status: 500 }),
  }, (request) => {
    const { pathname } = new URL(request.url);
    seen.push(`${pathname} ${request.headers.get("range") ?? ""}`.trim());
    const file = FILES[pathname.slice("/files/".length)];
    if (file !== undefined) {
      const from = Number(/^bytes=(\d+)-$/.exec(request.headers.get("range") ?? "")?.[1] ?? 0);
      const rest = file.slice(from);
      const isCut = left-- > 0;
      const body = new ReadableStream<Uint8Array>({
        start(controller) {
          controller.enqueue(isCut ? rest.slice(0, 1000) : rest);
          // What was sent before is to arrive.
          if (isCut) setTimeout(() => controller.error(new Error("cut off")), 50);
          else controller.close();
        },
      });
      return new Response(body, { status: from > 0 ? 206 : 200 });
    }
    const project = /^\/simple\/([\w-]+)\/$/.exec(pathname)?.[1];
    const wheel = WHEELS.find((w) => w.project === project);
    if (wheel === undefined) return new Response(null, { status: 404 });
    const hashes = { sha256: wheel.sha256 };
    const size = FILES[wheel.file]?.length;
    return Response.json({
      meta: { "api-version": "1.3" },
      files: [{ filename: wheel.file, url: `../../files/${wheel.file}`, hashes, size }],
    });
  });
  return {
    url: `http://127.0.0.1:${server.addr.port}/simple`,
    seen,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}

async function install(
  root: string,
  { url, wheels = WHEELS, onWheel = () => {} }: {
    readonly url: string;
    readonly wheels?: readonly CudaWheel[];
    readonly onWheel?: () => void | Promise<void>;
  },
) {
  await Deno.mkdir(join(root, "binding"), { recursive: true });
  let bytes = 0;
  await installCuda(
    { url },
    { wheels, folder: join(root, "cuda"), binding: join(root, "binding") },
    {
      signal: AbortSignal.timeout(30_000),
      onWheel,
      onBytes: (count) => bytes += count,
      patience: { tries: 3, firstWaitMs: 1, silenceMs: 1000 },
    },
  );
  return bytes;
}

Deno.test("Libraries come out of wheels, whole, and the provider's lie beside the runtime; once", () =>
  withFolder(async (root) => {
    await using index = startIndex({ cut: 1 });
    const bytes = await install(root, index);
    assert.equal(bytes, Object.values(FILES).reduce((sum, f) => sum + f.length, 0));
    assert.ok(index.seen.includes("/files/runtime-1.whl bytes=1000-"), index.seen.join());
    const [shared, provider] = CUDA_PROVIDER;
    for (const folder of ["binding", "cuda/lib"]) {
      assert.deepEqual(await Deno.readFile(join(root, folder, shared)), LARGE);
      assert.deepEqual(await Deno.readFile(join(root, folder, provider)), LARGE.slice(1));
    }
    assert.deepEqual((await readdir(join(root, "cuda"))).sort(), ["installed.json", "lib"]);
    assert.deepEqual((await readdir(join(root, "cuda/lib"))).sort(), [
      "libcublas.so.13",
      "libcudart.so.13",
      ...CUDA_PROVIDER.toSorted(),
    ]);

    index.seen.length = 0;
    await Deno.remove(join(root, "binding", provider));
    assert.equal(await install(root, index), 0);
    assert.deepEqual(index.seen, []);
    assert.deepEqual(await Deno.readFile(join(root, "binding", provider)), LARGE.slice(1));

    await Deno.remove(join(root, "cuda/lib/libcudart.so.13"));
    await install(root, index);
    assert.deepEqual(index.seen, ["/simple/cuda/", "/files/cuda-2.whl"]);
  }));

Deno.test("A wheel that is not the one that was chosen leaves nothing, and what was there stays", () =>
  withFolder(async (root) => {
    await using index = startIndex();
    await install(root, index);
    const [runtime, cuda] = WHEELS;
    assert.ok(runtime && cuda);
    const other = { ...cuda, version: "2", sha256: "0".repeat(64) };
    const cases: [CudaWheel, RegExp][] = [
      [other, /lists cuda-2\.whl with sha256 \w{64}, expected 0{64}/],
      [{ ...cuda, version: "2", file: "cuda-3.whl" }, /does not list cuda-3\.whl/],
      [{ ...cuda, project: "none" }, /simple\/none\/ answered 404/],
      [{ ...cuda, version: "2", members: /^nothing$/ }, /cuda-2\.whl holds no library/],
    ];
    for (const [wheel, message] of cases) {
      await assert.rejects(install(root, { ...index, wheels: [runtime, wheel] }), message);
      assert.deepEqual(await Deno.readFile(join(root, "cuda/lib/libcudart.so.13")), LARGE);
    }
  }));

Deno.test("Who says no before a wheel comes ends the installation; it is not asked where nothing comes", () =>
  withFolder(async (root) => {
    await using index = startIndex();
    const onWheel = () => Promise.reject(new Error("The disk is full"));
    await assert.rejects(install(root, { ...index, onWheel }), /The disk is full/);
    assert.deepEqual(index.seen.filter((path) => path.startsWith("/files/")), []);
    await install(root, index);
    assert.equal(await install(root, { ...index, onWheel }), 0);
  }));

Deno.test("Every library that is loaded into a process is in one of the wheels", () => {
  for (const name of [...CUDA_LIBRARIES, ...CUDA_PROVIDER]) {
    assert.equal(CUDA_WHEELS.filter(({ members }) => members.test(name)).length, 1, name);
  }
  for (const { file, version, sha256 } of CUDA_WHEELS) {
    assert.match(file, new RegExp(`-${RegExp.escape(version)}-.*x86_64\\.whl$`));
    assert.match(sha256, /^[0-9a-f]{64}$/);
  }
});
