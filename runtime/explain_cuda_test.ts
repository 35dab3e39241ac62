import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { bindingFolder, RUNTIME_VERSION } from "./cuda_libraries.ts";
import { explainCuda } from "./explain_cuda.ts";

const LINUX = { os: "linux", arch: "x86_64", driver: 13_000 };

// What ONNX Runtime 1.30 and glibc said on machines that lacked one thing after the other.
Deno.test("What provider cuda lacks is one sentence, and whoever can mend it", () => {
  const cases: [string, RegExp, string][] = [
    [
      "Failed to load library /b/libonnxruntime_providers_shared.so with error: /b/libonnxruntime_providers_shared.so: cannot open shared object file: No such file or directory",
      /^libonnxruntime_providers_shared\.so is not to be found$/,
      "setup",
    ],
    [
      "Failed to load library /b/libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open shared object file: No such file or directory",
      /^libcublasLt\.so\.13 is not to be found$/,
      "setup",
    ],
    [
      "cuda_call.cc:154 bool THRW CUDA failure 36: API call is not supported in the installed CUDA driver ; GPU=-1 ; hostname=vm",
      /^CUDA failure 36: API call is not supported in the installed CUDA driver$/,
      "nothing",
    ],
    ["CUDA failure 100: no CUDA-capable device is detected", /sees no GPU/, "nothing"],
  ];
  for (const [said, what, mend] of cases) {
    const fault = explainCuda({ reason: "Failed to load shared library", details: [said] }, LINUX);
    assert.match(fault.what, what);
    assert.equal(fault.mend, mend);
  }
  const none = explainCuda({ details: [] }, { ...LINUX, driver: undefined });
  assert.deepEqual([none.mend, /driver is not installed/.test(none.what)], ["driver", true]);
  const old = explainCuda({ details: [] }, { ...LINUX, driver: 12_040 });
  assert.deepEqual([old.mend, /knows CUDA 12\.4, expected 13\.0/.test(old.what)], ["driver", true]);
  const mac = explainCuda({ details: [] }, { os: "darwin", arch: "aarch64", driver: undefined });
  assert.deepEqual([mac.what.endsWith("darwin on aarch64"), mac.mend], [true, "nothing"]);
});

Deno.test("The CUDA provider's version is the runtime's that is pinned", async () => {
  const path = fileURLToPath(new URL("../deno.json", import.meta.url));
  const { imports } = JSON.parse(await readFile(path, "utf8"));
  assert.equal(imports["onnxruntime-node"], `npm:onnxruntime-node@${RUNTIME_VERSION}`);
  const names = [...Deno.readDirSync(bindingFolder())].map(({ name }) => name);
  assert.ok(names.includes("onnxruntime_binding.node"), names.join());
});
