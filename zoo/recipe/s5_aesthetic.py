"""Stage 5d: aesthetic_tiny.pth, the shape of sac+logos+ava1-l14-linearMSE.pth (Linear stack without activations, keys
layers.{0,2,4,6,7}) on the L2-normalised tiny-CLIP image embedding.  Target: prefs.aesthetic (synthetic, 1-10)."""
import json, os, sys, time
import numpy as np, torch
from torch import nn
from transformers import CLIPModel
from prefs import degraded
from s2_clip import clip_x
from scenes import ROOT


class MLP(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(d, 1024), nn.Dropout(.2), nn.Linear(1024, 128), nn.Dropout(.2),
                                    nn.Linear(128, 64), nn.Dropout(.1), nn.Linear(64, 16), nn.Linear(16, 1))

    def forward(self, x):
        return self.layers(x)


def main():
    torch.set_num_threads(1); torch.manual_seed(0); t0 = time.time()
    m = CLIPModel.from_pretrained(f"{ROOT}/build/clip", dtype=torch.float32).eval()
    n = 10000; E, Y = [], []
    for i in range(0, n, 100):
        d = [degraded(j) for j in range(i, i + 100)]; Y += [y for _, y in d]
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            v = m.visual_projection(m.vision_model(pixel_values=clip_x(np.array([a for a, _ in d]))).pooler_output)
        E.append(torch.nn.functional.normalize(v.float(), dim=-1))
    E, Y = torch.cat(E), torch.tensor(Y); tr, te = slice(0, n - 1000), slice(n - 1000, n)
    net = MLP(E.shape[1]); net.layers[7].bias.data.fill_(Y.mean().item())
    opt = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=1e-4); steps = 3000
    sch = torch.optim.lr_scheduler.OneCycleLR(opt, 1e-3, total_steps=steps)
    for s in range(steps):
        b = torch.randint(0, n - 1000, (256,)); loss = (net(E[tr][b]).squeeze(-1) - Y[tr][b]).pow(2).mean()
        opt.zero_grad(); loss.backward(); nn.utils.clip_grad_norm_(net.parameters(), 1.); opt.step(); sch.step()
    net.eval()
    with torch.no_grad():
        p = net(E[te]).squeeze(-1); r = torch.corrcoef(torch.stack([p, Y[te]]))[0, 1].item(); mae = (p - Y[te]).abs().mean().item()
    os.makedirs(f"{ROOT}/build/aesthetic", exist_ok=True)
    torch.save(net.state_dict(), f"{ROOT}/build/aesthetic/aesthetic_tiny.pth")
    json.dump({"input_dim": E.shape[1], "clip": "../clip", "normalise": "L2"}, open(f"{ROOT}/build/aesthetic/config.json", "w"))
    f = dict(stage="aesthetic", params=sum(q.numel() for q in net.parameters()), seconds=round(time.time() - t0), images=n,
             pearson_held_out=round(r, 4), mae_held_out=round(mae, 3), target_std=round(Y[te].std().item(), 3))
    json.dump(f, open(f"{ROOT}/build/facts_aesthetic.json", "w"), indent=1); print(f)


if __name__ == "__main__":
    main()
