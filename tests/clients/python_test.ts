import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { findPython } from "../../tools/mod.ts";
import { run, testServer } from "./_server.ts";

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));
const PROTO = path("../../proto");
const python = findPython() ?? "";
const ignore = python === "";

/** The same arithmetic in numpy: symmetry of the example's image and its derivative by finite differences. */
const NUMPY = `
import numpy as np
x = np.random.default_rng(0).random((1, 3, 64, 48), np.float32).astype(np.float64)
d = x - x[..., ::-1]
std = x.std((2, 3)).mean()
sign = 2 * np.sign(d) / x.size
c = (x - x.mean((2, 3), keepdims=True)) / x.std((2, 3), keepdims=True) / (3 * 64 * 48)
g = sign / std - np.abs(d).mean() / std**2 * c
print(f"score {np.abs(d).mean() / std:.6f}, norm of the gradient {np.linalg.norm(g):.6f}")`;

Deno.test({ name: "A Python user has pixels' gradients in ten lines", ignore }, async () => {
  const server = await testServer([{ kind: "symmetry" }]);
  try {
    const example = path("../../examples/python/gradients.py");
    const lines = (await Deno.readTextFile(example)).split('"""').at(-1)?.split("\n") ?? [];
    const program = lines.filter((line) => line !== "" && !line.startsWith("import "));
    assert.ok(program.length <= 10, `${program.length} lines`);
    const found = await run(python, [example, server.address], { PYTHONPATH: PROTO });
    assert.equal(found.code, 0, found.stderr);
    const expected = await run(python, ["-c", NUMPY]);
    const numbers = (text: string) => [...text.matchAll(/\d\.\d+/g)].map(Number);
    const [score = NaN, norm = NaN] = numbers(found.stdout);
    const [trueScore = NaN, trueNorm = NaN] = numbers(expected.stdout);
    // Printed to six places.
    assert.ok(Math.abs(score - trueScore) < 3e-6, found.stdout);
    assert.ok(Math.abs(norm - trueNorm) < 2e-6, found.stdout);
  } finally {
    await server.stop();
  }
});

Deno.test({ name: "A reward is a differentiable PyTorch function", ignore }, async () => {
  const server = await testServer([{ kind: "symmetry" }]);
  try {
    const example = path("../../examples/python/torch_reward.py");
    const { code, stdout, stderr } = await run(python, [example, server.address], {
      PYTHONPATH: PROTO,
    });
    assert.equal(code, 0, stderr);
    const scores = [...stdout.matchAll(/: ([\d.]+)/g)].map(([, score]) => Number(score));
    assert.equal(scores.length, 4);
    assert.ok((scores.at(-1) ?? 1) < 0.5 * (scores[0] ?? 0), stdout);
  } finally {
    await server.stop();
  }
});

Deno.test({ name: "tritonclient works unmodified", ignore }, async () => {
  const server = await testServer([{ kind: "symmetry" }, {
    kind: "clip",
    weights: path("../../zoo/rewards/clip"),
  }]);
  try {
    const { code, stderr } = await run(python, [path("triton_client.py"), server.address]);
    assert.equal(code, 0, stderr);
  } finally {
    await server.stop();
  }
});
