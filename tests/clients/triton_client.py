"""Asks a reward server with symmetry and clip all that tritonclient can ask, and checks the answers. Argument: HOST:PORT."""
import sys
import time

import numpy as np
import tritonclient.grpc as triton

client = triton.InferenceServerClient(sys.argv[1])
assert client.is_server_live() and client.is_server_ready()
assert client.is_model_ready("clip") and not client.is_model_ready("none")
assert client.get_server_metadata().name == "drtune"
metadata = client.get_model_metadata("clip")
assert [i.name for i in metadata.inputs] == ["IMAGE", "PROMPT"], metadata
assert [o.name for o in metadata.outputs] == ["SCORE", "GRADIENT"], metadata

rng = np.random.default_rng(1)
outputs = [triton.InferRequestedOutput(name) for name in ("SCORE", "GRADIENT")]


def ask(model, image, prompts=None):
    inputs = [triton.InferInput("IMAGE", image.shape, "FP32" if image.dtype == np.float32 else "FP16")]
    inputs[0].set_data_from_numpy(image)
    if prompts:
        inputs.append(triton.InferInput("PROMPT", [len(prompts)], "BYTES"))
        inputs[1].set_data_from_numpy(np.array([p.encode() for p in prompts], object))
    result = client.infer(model, inputs, outputs=outputs, client_timeout=120)
    return result.as_numpy("SCORE"), result.as_numpy("GRADIENT")


image = rng.random((2, 3, 40, 30)).astype(np.float32)
prompts = ["a fox, and books", "two red cats"]
scores, gradient = ask("clip", image, prompts)
assert scores.shape == (2,) and gradient.shape == image.shape and gradient.dtype == np.float32
# The gradient predicts what a small step along it does.
step = 1e-3 * gradient / np.linalg.norm(gradient)
after, _ = ask("clip", image + step, prompts)
before, _ = ask("clip", image - step, prompts)
change, predicted = (after - before).sum(), 2 * (gradient * step).sum()
assert abs(change / predicted - 1) < 0.02, (change, predicted)
half, half_gradient = ask("symmetry", image.astype(np.float16))
full, _ = ask("symmetry", image.astype(np.float16).astype(np.float32))
assert np.allclose(half, full, atol=1e-6) and half_gradient.dtype == np.float16

for model, image, message in [
    ("none", image, "there are clip, symmetry"),
    ("clip", image, "needs one for each"),
    ("symmetry", np.full((1, 3, 8, 8), np.nan, np.float32), "expected finite values"),
]:
    try:
        ask(model, image)
        raise AssertionError("not refused")
    except triton.InferenceServerException as error:
        assert message in str(error), error

# Many at once, through the client's own callbacks.
answers = []
image = rng.random((1, 3, 16, 16)).astype(np.float32)
inputs = [triton.InferInput("IMAGE", image.shape, "FP32")]
inputs[0].set_data_from_numpy(image)
for _ in range(20):
    client.async_infer("symmetry", inputs, lambda result, error: answers.append(error or result.as_numpy("SCORE")[0]))
deadline = time.monotonic() + 120
while len(answers) < 20 and time.monotonic() < deadline:
    time.sleep(0.02)
client.close()
assert len(answers) == 20 and np.ptp(np.array(answers, float)) == 0, answers
print("fine")
