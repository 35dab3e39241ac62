"""d score / d pixels from a running reward server, with grpcio, grpcio-tools, numpy and the published proto alone.

    deno run -A services/reward/main.ts --reward symmetry
    PYTHONPATH=proto python examples/python/gradients.py 127.0.0.1:50051
"""
import sys

import grpc
import numpy as np

pb, rpc = grpc.protos_and_services("drtune/reward/v1/reward.proto")
# A gradient is as large as its image, and grpcio takes 4 MB at most unless it is told otherwise; the server's own limit is
# in Describe.
rewards = rpc.RewardServiceStub(grpc.insecure_channel(sys.argv[1], [("grpc.max_receive_message_length", -1)]))
image = np.random.default_rng(0).random((1, 3, 64, 48), np.float32)  # NCHW, RGB in 0..1
tensor = pb.Tensor(dtype=pb.DATA_TYPE_FLOAT32, shape=image.shape, data=image.tobytes())
request = pb.ScoreAndGradientRequest(images=[pb.Image(tensor=tensor)], prompts=["a fox, and books"])
answer = rewards.ScoreAndGradient(request)
gradient = np.frombuffer(answer.gradients[0].data, np.float32).reshape(image.shape)
print(f"score {answer.scores[0]:.6f}, norm of the gradient {np.linalg.norm(gradient):.6f}")
