"""A reward server as a differentiable PyTorch function: here pixels climb it by Adam.

    deno run -A services/reward/main.ts --reward symmetry
    PYTHONPATH=proto python examples/python/torch_reward.py 127.0.0.1:50051
"""
import sys

import grpc
import torch

pb, rpc = grpc.protos_and_services("drtune/reward/v1/reward.proto")


class Reward(torch.autograd.Function):
    """Scores [B] of images float32 [B, 3, H, W] in 0..1, and their gradient."""

    @staticmethod
    def forward(ctx, images, stub, prompts):
        data = images.detach().cpu().contiguous().numpy().tobytes()
        tensor = pb.Tensor(dtype=pb.DATA_TYPE_FLOAT32, shape=images.shape, data=data)
        request = pb.ScoreAndGradientRequest(images=[pb.Image(tensor=tensor)], prompts=prompts)
        answer = stub.ScoreAndGradient(request)
        gradient = torch.frombuffer(bytearray(answer.gradients[0].data), dtype=torch.float32)
        ctx.save_for_backward(gradient.reshape(images.shape).to(images.device))
        return torch.tensor(answer.scores, device=images.device)

    @staticmethod
    def backward(ctx, upstream):
        (gradient,) = ctx.saved_tensors
        return upstream[:, None, None, None] * gradient, None, None


# Gradients of large images exceed the 4 MB that grpcio takes unless it is told otherwise.
room = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
stub = rpc.RewardServiceStub(grpc.insecure_channel(sys.argv[1], options=room))
torch.manual_seed(0)
pixels = torch.rand(2, 3, 48, 48, requires_grad=True)
adam = torch.optim.Adam([pixels], lr=0.02)
for step in range(30):
    scores = Reward.apply(pixels, stub, ["a fox, and books"])
    # Symmetry is better when it is smaller; Describe says which way a reward goes.
    adam.zero_grad()
    scores.sum().backward()
    adam.step()
    if step % 10 == 0 or step == 29:
        print(f"step {step}: {scores.mean():.4f}")
