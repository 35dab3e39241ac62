import assert from "node:assert/strict";
import { join } from "node:path";
import { withFolder } from "../../../tests/support/mod.ts";
import { checkSpace } from "./check_space.ts";
import { chooseFiles } from "./choose_files.ts";
import { download } from "./download.ts";
import { type HubFile, listRepository } from "./hub.ts";
import { type Fault, REPO, startHub } from "./testing/small_hub.ts";

const LARGE = crypto.getRandomValues(new Uint8Array(50_000));
const FILES = {
  "a folder/model.safetensors": LARGE,
  "config.json": new TextEncoder().encode('{"model_type":"clip"}'),
};
const signal = AbortSignal.timeout(60_000);
const quick = { tries: 6, firstWaitMs: 1, silenceMs: 200 };

/** Downloads all of the small hub's files into a folder, and answers how each came. */
async function all(
  folder: string,
  { faults = [], token, known = [] }: {
    readonly faults?: readonly Fault[];
    readonly token?: string;
    readonly known?: readonly string[];
  } = {},
) {
  await using server = startHub(FILES, token === undefined ? {} : { token });
  const hub = { url: server.url, token };
  const { commit, files } = await listRepository(hub, { repo: REPO, revision: "main", signal });
  server.faults.push(...faults);
  let bytes = 0;
  const outcomes: string[] = [];
  for (const file of files) {
    outcomes.push(
      await download(hub, { repo: REPO, commit, file, path: join(folder, file.path), known }, {
        signal,
        onBytes: (count) => bytes += count,
        patience: quick,
      }),
    );
  }
  return { outcomes, bytes, seen: server.seen };
}

const arrived = async (folder: string) =>
  assert.deepEqual(await Deno.readFile(join(folder, "a folder/model.safetensors")), LARGE);

Deno.test("Files come, whole and hashed; those that are here do not come again", () =>
  withFolder(async (folder) => {
    const first = await all(folder);
    assert.deepEqual([first.outcomes, first.bytes], [["came", "came"], 50_021]);
    await arrived(folder);
    const second = await all(folder);
    assert.deepEqual([second.outcomes, second.bytes], [["was here", "was here"], 50_021]);
    assert.deepEqual(second.seen.filter(({ path }) => path.includes("resolve")), []);
  }));

Deno.test("A broken, silent or overloaded transfer goes on from where it was", () =>
  withFolder(async (folder) => {
    const { bytes, seen } = await all(folder, {
      faults: ["503", "429", "broken", "silent", "broken"],
    });
    await arrived(folder);
    assert.equal(bytes, 50_021);
    const ranges = seen.filter(({ at }) => at === "store").map(({ range }) => range);
    assert.ok(ranges.at(-1)?.startsWith("bytes="), ranges.join());
  }));

Deno.test("What came before this program ended is kept, and a wrong content is thrown away", () =>
  withFolder(async (folder) => {
    await Deno.mkdir(join(folder, "a folder"));
    await Deno.writeFile(join(folder, "a folder/model.safetensors.part"), LARGE.slice(0, 40_000));
    const { seen } = await all(folder);
    await arrived(folder);
    assert.deepEqual(seen.filter((s) => s.at === "store").map((s) => s.range), ["bytes=40000-"]);

    await Deno.writeFile(join(folder, "a folder/model.safetensors"), LARGE.slice(1));
    await assert.rejects(
      all(folder, { faults: ["wrong content"] }),
      /a folder\/model.safetensors has another content than the hub says \(\w{64}\)/,
    );
    const left = [...Deno.readDirSync(join(folder, "a folder"))].map((f) => f.name);
    assert.deepEqual(left, ["model.safetensors"]);
  }));

Deno.test("A server without ranges sends all of it anew, and what is longer here than there is dropped", () =>
  withFolder(async (folder) => {
    const { seen } = await all(folder, { faults: ["silent", "no ranges"] });
    await arrived(folder);
    assert.match(seen.findLast(({ at }) => at === "store")?.range ?? "", /^bytes=\d+-$/);

    const file = join(folder, "a folder/model.safetensors");
    await Deno.remove(file);
    await Deno.writeFile(`${file}.part`, new Uint8Array(LARGE.length + 1));
    await all(folder);
    await arrived(folder);
  }));

Deno.test("A transfer that cannot come ends with what to do, and keeps what came", () =>
  withFolder(async (folder) => {
    const rejected = async (faults: readonly Fault[], message: RegExp) => {
      await assert.rejects(all(folder, { faults }), message);
    };
    await rejected(["401"], /someone\/model is not given to everyone \(401\).*HF_TOKEN/);
    await rejected(Array<Fault>(6).fill("429"), /asks to wait \(429\): try again later, or with/);
    await rejected(Array<Fault>(6).fill("503"), /answered 503 for someone\/model/);
    await rejected(["circle"], /redirects more than 5 times/);
    await rejected(["elsewhere"], /redirects to .*, which is not encrypted/);
    await rejected(["silent", "401"], /\(401\)/);
    const { seen } = await all(folder);
    await arrived(folder);
    assert.match(seen.find(({ at }) => at === "store")?.range ?? "", /^bytes=\d+-$/);
    await Deno.remove(join(folder, "a folder/model.safetensors"));
    await rejected(["too long"], /model\.safetensors is longer than the 50000 bytes/);
  }));

Deno.test("A disk without room is said before anything comes", () =>
  withFolder(async (folder) => {
    const inner = join(folder, "models");
    assert.ok(await checkSpace(inner, 0) > 1e9);
    await assert.rejects(
      checkSpace(inner, 1e18),
      /The disk of .*models has [\d.]+ GB left, expected 1000000001\.0 for what comes/,
    );
  }));

Deno.test("A token goes to the hub and to nobody else; without one the message says what to do", () =>
  withFolder(async (folder) => {
    const { seen } = await all(folder, { token: "hf_secret" });
    assert.deepEqual(
      new Set(seen.map((s) => `${s.at} ${s.token}`)),
      new Set(["hub true", "store false"]),
    );
    await using server = startHub(FILES, { token: "hf_secret" });
    await assert.rejects(
      listRepository({ url: server.url }, { repo: REPO, revision: "main", signal }),
      /someone\/model is not given to everyone \(401\), or does not exist: agree to its terms at .*HF_TOKEN/,
    );
    await assert.rejects(
      listRepository({ url: server.url, token: "hf_secret" }, {
        repo: "no/body",
        revision: "main",
        signal,
      }),
      /no\/body does not exist at .* \(404\)/,
    );
    const closed = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = closed.addr;
    closed.close();
    await assert.rejects(
      listRepository({ url: `http://127.0.0.1:${port}` }, { repo: REPO, revision: "main", signal }),
      /http:\/\/127\.0\.0\.1:\d+ does not answer \(client error.*refused.*\): HF_ENDPOINT names a mirror/,
    );
  }));

Deno.test("A copy in the hub's own cache is linked, and a damaged one is not", () =>
  withFolder(async (folder) => {
    const copy = join(folder, "blob");
    await Deno.writeFile(copy, LARGE.map((b) => b ^ 1));
    assert.deepEqual((await all(join(folder, "a"), { known: [copy] })).outcomes, ["came", "came"]);
    await Deno.writeFile(copy, LARGE);
    assert.deepEqual((await all(join(folder, "b"), { known: [copy] })).outcomes, [
      "linked",
      "came",
    ]);
    await arrived(join(folder, "b"));
  }));

Deno.test("Of a repository the files are taken that are read here", () => {
  const file = (path: string): HubFile => ({ path, size: 1, digest: { kind: "git", hex: "" } });
  const chosen = (paths: readonly string[], options?: Parameters<typeof chooseFiles>[1]) =>
    chooseFiles(paths.map(file), options).map((f) => f.path);
  const pipeline = [
    ...["README.md", "model_index.json", "v1-5-pruned.safetensors", "v1-5-pruned.ckpt"],
    ...["unet/config.json", "unet/diffusion_pytorch_model.safetensors"],
    ...["unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.bin"],
    ...["vae/diffusion_pytorch_model.safetensors", "vae/model.onnx", "tokenizer/vocab.json"],
  ];
  assert.deepEqual(chosen(pipeline), [
    ...["README.md", "model_index.json", "unet/config.json"],
    ...["unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"],
    "tokenizer/vocab.json",
  ]);
  assert.deepEqual(chosen(pipeline, { variant: "fp16" }), [
    ...["README.md", "model_index.json", "unet/config.json"],
    ...["unet/diffusion_pytorch_model.fp16.safetensors", "vae/diffusion_pytorch_model.safetensors"],
    "tokenizer/vocab.json",
  ]);
  assert.deepEqual(
    chosen([
      "config.json",
      "pytorch_model.bin",
      "model.safetensors",
      "tf_model.h5",
      "flax_model.msgpack",
    ]),
    ["config.json", "model.safetensors"],
  );
  assert.deepEqual(chosen(["config.json", "pytorch_model.bin"]), [
    "config.json",
    "pytorch_model.bin",
  ]);
  assert.deepEqual(
    chosen(["a.pt", "b/a.pt", "tokenizer.json"], { patterns: ["*.pt", "tokenizer*.json"] }),
    ["a.pt", "tokenizer.json"],
  );
});

Deno.test("Of published pipelines their parts are taken, and nothing that lies beside them", () => {
  // As the repositories of Stable Diffusion 1.5, XL and 3.5 list them.
  const beside = [
    ...["v1-5-pruned.safetensors", "v1-inference.yaml", "safety_checker/config.json"],
    ...["safety_checker/model.safetensors", "feature_extractor/preprocessor_config.json"],
    ...["unet/diffusion_pytorch_model.non_ema.safetensors", "vae_1_0/config.json"],
    ...["vae_1_0/diffusion_pytorch_model.safetensors", "vae_encoder/model.onnx"],
    ...[
      "vae_decoder/config.json",
      "sd_xl_base_1.0.safetensors",
      "text_encoders/clip_g.safetensors",
    ],
    ...["text_encoders/t5xxl_fp16.safetensors", "sd3.5_medium.safetensors"],
    "text_encoder_3/model.fp16-00001-of-00002.safetensors",
  ];
  const parts = [
    ...["model_index.json", "scheduler/scheduler_config.json", "unet/config.json"],
    ...["unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"],
    ...["transformer/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"],
    ...["text_encoder_2/model.safetensors", "text_encoder_3/model-00001-of-00002.safetensors"],
    ...["text_encoder_3/model.safetensors.index.json", "tokenizer_3/spiece.model"],
    "tokenizer/merges.txt",
  ];
  const files = [...beside, ...parts].toSorted().map((path): HubFile => ({
    path,
    size: 1,
    digest: { kind: "git", hex: "" },
  }));
  const named = (chosen: readonly HubFile[]) => chosen.map(({ path }) => path);
  assert.deepEqual(named(chooseFiles(files)), [...parts, "v1-inference.yaml"].toSorted());
});
