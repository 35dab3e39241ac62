#!/usr/bin/env python3
"""Writes counter_measures.json: what is there against reward hacking, by PyTorch's autograd in float64.

combine: the worth of images under several rewards (hinge, z-score, sum, mean, minimum) and its derivatives by the scores.
average: an average of parameters over updates by diffusers' EMAModel.
norm: the hinge on the size of predictions, its value and its gradient at the outputs.
evidence: the e-value of "the mean is below 0", by numerical integration.
"""
import json, math, os
import torch
from diffusers.training_utils import EMAModel

torch.manual_seed(0)
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)


def combine(combination, rewards, images=5):
    scores, values, weights = [], [], []
    for r in rewards:
        s = (torch.randn(images) * r.get("scale", 1.0) + r.get("shift", 0.0)).requires_grad_()
        v = s if r["direction"] == "maximise" else -s
        if "hinge" in r:
            h = r["hinge"] if r["direction"] == "maximise" else -r["hinge"]
            # ReFL's loss, but for the constant.
            v = h - torch.relu(h - v)
        if r.get("zScore"):
            v = (v - v.detach().mean()) / v.detach().std(correction=0)
        scores.append(s)
        values.append(r["weight"] * v)
        weights.append(r["weight"])
    trained = torch.stack([v for v, w in zip(values, weights) if w != 0])
    worth = {"sum": trained.sum(0), "mean": trained.sum(0) / sum(abs(w) for w in weights),
             "min": trained.min(0).values}[combination]
    slopes = torch.autograd.grad(worth.sum(), scores, allow_unused=True)
    return dict(combination=combination,
                rewards=[{k: v for k, v in r.items() if k not in ("scale", "shift")} | dict(scores=s.tolist())
                         for r, s in zip(rewards, scores)],
                perImage=worth.tolist(),
                slopes=[(torch.zeros(images) if g is None else g).tolist() for g in slopes])


def average(decay):
    p = torch.nn.Parameter(torch.randn(6))
    ema = EMAModel([p], decay=decay)
    out = dict(decay=decay, initial=p.tolist(), updates=[])
    for _ in range(30):
        with torch.no_grad():
            p += torch.randn(6) * 0.1
        ema.step([p])
        out["updates"].append(dict(parameters=p.tolist(), average=ema.shadow_params[0].tolist()))
    return out


def norm(images=3, size=8):
    o0 = torch.randn(images, size)
    o = (o0 * torch.tensor([1.2, 0.9, 1.0])[:, None] + 0.05 * torch.randn(images, size)).requires_grad_()
    rms = lambda t: t.pow(2).mean(1).sqrt()
    value = torch.relu(rms(o) - rms(o0)).pow(2).mean()
    value.backward()
    return dict(output=o.tolist(), frozen=o0.tolist(), value=value.item(), gradient=o.grad.tolist())


def evidence(n, shift, prior=0.25):
    """Bayes factor of "effects below 0" against "no effect", both integrated numerically over what is not known."""
    x = torch.randn(n) + shift
    # log sigma, with density 1 / sigma; effects mean / sigma, normal of variance 1 / prior.
    u = torch.linspace(-9, 9, 6001)
    sigma = u.exp() * x.pow(2).mean().sqrt()
    effects = torch.linspace(-30, 0, 12001)
    log_prior = -prior * effects**2 / 2 + 0.5 * math.log(prior / (2 * math.pi))

    def log_likelihood(effect):
        # The sum of (x - effect sigma)^2 / sigma^2, by powers of 1 / sigma.
        q = x.pow(2).sum() / sigma**2 - 2 * effect * x.sum() / sigma + n * effect**2
        return torch.logsumexp(-n * sigma.log() - q / 2, 0)

    null = log_likelihood(torch.tensor(0.0))
    alternative = torch.stack([log_likelihood(e) for e in effects]) + log_prior
    ratio = torch.trapezoid((alternative - null).exp(), effects)
    # The half of the prior that counts has half of its weight.
    return dict(differences=x.tolist(), value=2 * ratio.item())


up, down = dict(direction="maximise", weight=1.5), dict(direction="minimise", weight=0.4, scale=3.0, shift=2.0)
watched = dict(direction="maximise", weight=0.0)
cases = [combine(c, [up, down, watched]) for c in ("sum", "mean", "min")]
cases += [combine(c, [up | dict(hinge=0.3), down | dict(hinge=1.5)]) for c in ("sum", "min")]
cases += [combine(c, [up | dict(zScore=True), down | dict(zScore=True, hinge=1.5)]) for c in ("sum", "mean", "min")]
# The same reward at two prompts, weights of opposite sign.
cases += [combine(c, [up, up | dict(weight=-0.5)]) for c in ("sum", "mean")]
out = dict(combine=cases, average=[average(d) for d in (0.5, 0.99)], norm=[norm(), norm()],
           evidence=[evidence(n, s) for n, s in ((4, 0.0), (5, -1.0), (8, -0.7), (8, 0.6), (8, -3.0), (16, -0.5), (24, 0.1))])
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "counter_measures.json")
with open(path, "w") as f:
    f.write("{\n" + ",\n".join(f"{json.dumps(k)}: [\n" + ",\n".join(json.dumps(c) for c in v) + "\n]" for k, v in out.items()) + "\n}\n")
