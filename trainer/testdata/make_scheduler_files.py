#!/usr/bin/env python3
"""Writes scheduler_files.json: what diffusers' DDPM, DDIM, DPM-Solver++ and LCM make of scheduler files of other classes.

    make_scheduler_files.py [--count 40] [--seed 0] [--out scheduler_files.json]

A file is what a class of diffusers saves of itself with random fields, a few left out as in files of older versions.
Each row: the file, the sampler, its steps, the timesteps after from_config(file), and a trajectory in float32 whose
denoiser's outputs and noise are sines that the test computes too; null where diffusers fails or finds no finite number.
Needs diffusers 0.42 and torch."""
import argparse, json, math, os, random, warnings
import diffusers, numpy as np, torch
from diffusers.schedulers import scheduling_ddpm, scheduling_lcm
diffusers.logging.set_verbosity_error(); warnings.simplefilter("ignore"); np.seterr(all="ignore")

SOURCES = ["DDIM", "DDPM", "DEISMultistep", "DPMSolverMultistep", "DPMSolverSinglestep", "EulerAncestralDiscrete", "EulerDiscrete",
           "HeunDiscrete", "KDPM2AncestralDiscrete", "KDPM2Discrete", "LCM", "PNDM", "SASolver", "TCD", "UniPCMultistep"]
TARGETS = {"ddpm": diffusers.DDPMScheduler, "ddim": diffusers.DDIMScheduler, "dpmsolver++": diffusers.DPMSolverMultistepScheduler,
           "lcm": diffusers.LCMScheduler}
# Old files leave these out.
OPTIONAL = ["timestep_spacing", "prediction_type", "rescale_betas_zero_snr", "final_sigmas_type", "use_karras_sigmas", "steps_offset",
            "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas", "use_flow_sigmas", "flow_shift", "euler_at_final"]


def source_file(rng):
    name = rng.choice(SOURCES)
    cls = getattr(diffusers, name + "Scheduler")
    schedule = rng.choice([dict(beta_start=.00085, beta_end=.012, beta_schedule="scaled_linear")] * 3 +
                          [dict(beta_start=.0001, beta_end=.02, beta_schedule="linear"), dict(beta_schedule="squaredcos_cap_v2")])
    wanted = dict(schedule, num_train_timesteps=rng.choice([1000] * 4 + [777, 100]), clip_sample=False,
                  steps_offset=rng.choice([0, 1, 1]), timestep_spacing=rng.choice(["leading", "linspace", "trailing"]),
                  prediction_type=rng.choice(["epsilon", "epsilon", "v_prediction", "sample"]),
                  rescale_betas_zero_snr=rng.random() < .2, set_alpha_to_one=rng.random() < .5,
                  solver_order=rng.choice([1, 2, 2]), lower_order_final=rng.random() < .7, final_sigmas_type=rng.choice(["zero", "sigma_min"]))
    spread = rng.choice([None] * 3 + ["use_karras_sigmas"] * 3 + ["use_exponential_sigmas", "use_lu_lambdas"])
    if spread:
        wanted[spread] = True
    if spread == "use_exponential_sigmas":
        wanted["num_train_timesteps"] = 1000  # With others the last bit of numpy's logarithm decides the first timestep.
    if name == "DDPM":
        wanted["variance_type"] = rng.choice(["fixed_small", "fixed_small_log", "fixed_large"])
        wanted["beta_schedule"] = rng.choice([wanted["beta_schedule"], "sigmoid", "laplace"])
    if name == "DPMSolverMultistep":
        wanted.update(solver_type=rng.choice(["midpoint", "heun"]), euler_at_final=rng.random() < .3,
                      lambda_min_clipped=rng.choice([-math.inf, -math.inf, -5.1, -3.0]))
    if name == "DEISMultistep" and rng.random() < .5:
        wanted["solver_type"] = "logrho"
    if name == "EulerDiscrete" and spread and rng.random() < .5:
        wanted.update(sigma_min=0.05, sigma_max=11.0)
    import inspect
    known = inspect.signature(cls.__init__).parameters
    config = dict(cls(**{k: v for k, v in wanted.items() if k in known}).config)
    config.pop("_use_default_values", None)
    for field in OPTIONAL:
        if field in config and not config[field] and rng.random() < .5:
            del config[field]
    return json.loads(json.dumps({"_class_name": name + "Scheduler", **config}).replace("-Infinity", '"-Infinity"'))


def as_python(config):
    return {k: -math.inf if v == "-Infinity" else v for k, v in config.items()}


def wave(a, i):
    return torch.tensor([math.sin(a + 2 * i + 3 * j) for j in range(2)], dtype=torch.float32).reshape(1, 2, 1, 1)


def run(kind, config, steps, eta):
    cls = TARGETS[kind]
    s = cls.from_config(as_python(config))
    s.register_to_config(clip_sample=False)
    s.set_timesteps(steps)
    if kind == "dpmsolver++":
        s.set_begin_index(0)  # It would look for the first timestep, and find the second where it is there twice.
    x, xs = wave(.5, 0), []
    for i, t in enumerate(s.timesteps):
        n = wave(2, i)
        scheduling_ddpm.randn_tensor = scheduling_lcm.randn_tensor = lambda *a, **k: n
        x = s.step(wave(1, i), t, x, **({"eta": eta, "variance_noise": n} if kind == "ddim" and eta else {})).prev_sample
        xs += x.flatten().tolist()
    assert all(map(math.isfinite, xs)) and len(s.timesteps) == steps
    return s.timesteps.tolist(), xs


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "scheduler_files.json"))
    args = parser.parse_args()
    rng, rows = random.Random(args.seed), []
    for _ in range(args.count):
        file = source_file(rng)
        for kind in TARGETS:
            steps = rng.choice([1, 2, 4, 5, 7, 10, 12, 15, 20, 25, 30, 50])
            eta = rng.choice([0, 0, 1.0, .3]) if kind == "ddim" else 0
            try:
                timesteps, x = run(kind, file, steps, eta)
            except (AssertionError, ValueError, NotImplementedError):
                timesteps = x = None
            rows.append(dict(file=file, kind=kind, steps=steps, eta=eta, timesteps=timesteps,
                             x=x and [float(f"{v:.8g}") for v in x]))
    with open(args.out, "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n")


main()
