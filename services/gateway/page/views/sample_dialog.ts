import { openWorkDialog } from "../dialog.ts";
import { field, h, replace } from "../dom.ts";
import { DrawnSheet } from "../drawn_sheet.ts";
import { servedRewards } from "../form/served_rewards.ts";
import { linesOf } from "../lines.ts";
import { imageUrl, sampledImages } from "../sampled_images.ts";
import { scoreImage } from "../score_image.ts";
import type { Run, Services } from "../types.ts";
import { checkpointSelect } from "./checkpoint_select.ts";
import { betterByKey, RewardChecks } from "./reward_checks.ts";

/** Lets somebody draw images with a checkpoint of a run; chosen rewards score them as they come. */
export function openSampleDialog(run: Run, services: Services | undefined): void {
  const leaving = new AbortController();
  const prompts = h("textarea", {
    rows: 3,
    placeholder: "One prompt a line; none: the held-out prompts",
  });
  const step = checkpointSelect(run);
  const seed = h("input", { type: "number", min: 0, max: 2 ** 32 - 1, value: 0 });
  const each = h("input", { type: "number", min: 1, max: 64, value: 1 });
  const rewards = new RewardChecks("Rewards to score with", {
    served: servedRewards(services, []),
    terms: run.rewards,
  });
  const place = h("div", {});
  const status = h("p", { class: "sub", role: "status" });
  const draw = async (signal: AbortSignal) => {
    const judges = rewards.chosen;
    const sheet = new DrawnSheet(betterByKey(judges));
    replace(place, sheet.element);
    replace(status, "Drawing…");
    const scoring: Promise<void>[] = [];
    const order = {
      runId: run.id,
      step: Number(step.value),
      prompts: linesOf(prompts.value),
      seed: seed.valueAsNumber,
      imagesPerPrompt: each.valueAsNumber,
    };
    for await (const image of sampledImages(order, signal)) {
      const { prompt, png, seed } = image;
      const scores: Record<string, number> = {};
      sheet.add({ prompt, seed, url: imageUrl(image, leaving.signal), scores });
      for (const judge of judges) {
        const score = scoreImage(judge, { png, prompt }, signal).then((value) => {
          scores[judge.key] = value;
          sheet.update();
        });
        // It is looked at when all are drawn.
        score.catch(() => {});
        scoring.push(score);
      }
      replace(status, `${sheet.images.length} drawn…`);
    }
    await Promise.all(scoring);
    const { length } = sheet.images;
    replace(status, length === 1 ? "1 image" : `${length} images`);
  };
  openWorkDialog({
    title: `Draw images with ${run.id}`,
    body: [
      field("Prompts", prompts),
      h(
        "div",
        { class: "row" },
        field("Weights", step),
        field("First seed", seed),
        field("Images per prompt", each),
      ),
      rewards.element,
    ],
    action: "Draw",
    work: draw,
    leaving,
    status,
    below: [status, place],
  });
}
