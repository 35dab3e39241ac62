"""Pushes a run to Weights & Biases or to trackio, while it trains or afterwards.

    pip install wandb    # or trackio, whose functions are the same
    python examples/python/push.py runs/books-1 --project drtune
    python examples/python/push.py runs/books-1 --project drtune --to trackio
"""
import argparse
import importlib
import json
import pathlib
import time

ENDED = ("finished", "stopped", "failed")


def events(log):
    """What a run's log says, line by line as it grows, until the run has ended."""
    line, ended = "", False
    while True:
        line += log.readline()
        if line.endswith("\n"):
            event, line = json.loads(line), ""
            # A run that was resumed says so after it had ended.
            ended = event["state"] in ENDED if event["type"] == "state" else ended
            yield event
        elif ended:
            return
        else:
            time.sleep(1)


def values(event):
    """The numbers of an event, under the names they have in TensorBoard."""
    means = {name: reward["mean"] for name, reward in event.get("rewards", {}).items()}
    if event["type"] == "panel":
        return {f"panel/{name}": mean for name, mean in means.items()} | {
            "panel_diversity": event["diversity"]
        }
    found = {f"reward/{name}": mean for name, mean in means.items()}
    if event["step"] > 0:  # Step 0 is the model as it was: it has samples only.
        found |= {"loss": event["loss"], "gradient_norm": event["gradNorm"]}
        found |= {"drift": event["drift"]} if "drift" in event else {}
        found |= {f"seconds/{phase}": seconds for phase, seconds in event["seconds"].items()}
    scores = [sample["rewards"] for sample in event["samples"]]
    for name in sorted({name for score in scores for name in score}):
        known = [score[name] for score in scores if name in score]
        found[f"samples/{name}"] = sum(known) / len(known)
    return found


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("run", type=pathlib.Path, help="folder of the run")
parser.add_argument("--project", default="drtune")
parser.add_argument("--to", choices=["wandb", "trackio"], default="wandb")
options = parser.parse_args()
client = importlib.import_module(options.to)
config = json.loads((options.run / "config.json").read_text())
client.init(project=options.project, name=options.run.name, config=config)
# Steps that a run repeats after a fall come out as they were, and are pushed once.
pushed = {"step": -1, "panel": -1}
with open(options.run / "events.jsonl", encoding="utf-8") as log:
    for event in events(log):
        kind, step = event["type"], event["step"]
        if step > pushed.get(kind, step):
            pushed[kind] = step
            images = {
                f"sample/{sample['seed']} {sample['prompt']}": client.Image(
                    str(options.run / sample["path"]), caption=sample["prompt"]
                )
                for sample in event.get("samples", [])
            }
            client.log(values(event) | images, step=step)
client.finish()
