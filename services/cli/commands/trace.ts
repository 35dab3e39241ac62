import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { loadReward } from "../../../rewards/mod.ts";
import { parseRewardConfig } from "../../../rewards/mod.ts";
import { openEngine, PROVIDERS } from "../../../runtime/mod.ts";
import { openTraceModel, readTraceCase, trace as replay } from "../../../trainer/mod.ts";
import { writeSafetensors } from "../../../models/weights/mod.ts";
import { type Command, UsageError } from "../command.ts";

/** Replays a golden case. */
export const trace: Command = {
  name: "trace",
  summary: "Replay a training step with given randomness and write every tensor of it",
  usage: "--case FOLDER --out FILE",
  options: {
    case: { type: "string", value: "FOLDER", help: "folder with case.json and inputs.safetensors" },
    out: { type: "string", value: "FILE", help: "safetensors file to write" },
    threads: { type: "string", value: "N", help: "threads of one operator (default: all cores)" },
    provider: { type: "string", value: "NAME", help: `${PROVIDERS.join(", ")} (default cpu)` },
    json: { type: "boolean", help: "print what was written as JSON" },
  },
  examples: [
    "drtune trace --case tests/golden/cases/drtune_ddpm_early --out actual.safetensors",
    "python3 tests/golden/compare.py tests/golden/cases/drtune_ddpm_early actual.safetensors",
  ],
  async run(args) {
    if (args.positionals.length > 0) throw new UsageError(`Unexpected "${args.positionals[0]}"`);
    const [folder, out] = [args.required("case"), args.required("out")];
    const threads = args.number("threads", { min: 1, integer: true });
    const provider = args.oneOf("provider", PROVIDERS);
    if (!existsSync(join(folder, "case.json"))) {
      throw new UsageError(`Option --case is ${folder}, expected a folder with case.json`);
    }
    const given = await readTraceCase(folder);
    const engine = await openEngine({ isolation: "in-process" });
    try {
      const session = { provider, ...(threads !== undefined && { intraOpNumThreads: threads }) };
      const model = await openTraceModel(given, engine, { session });
      const tensors = await replay(given, model, { upstream: rewardGradient });
      await mkdir(dirname(out), { recursive: true });
      await writeSafetensors(out, { ...tensors });
      const names = Object.keys(tensors);
      console.log(
        args.flag("json")
          ? JSON.stringify({ out, tensors: names })
          : `${out}: ${names.length} tensors`,
      );
      return 0;
    } finally {
      await engine.close();
    }
  },
};

/**
 * d score / d image for cases that name a reward instead of giving its gradient. Theirs are the paper's: symmetry
 * over one standard deviation of all channels.
 */
async function rewardGradient(
  images: Parameters<Awaited<ReturnType<typeof loadReward>>["score"]>[0],
  name: string,
) {
  const options = name === "symmetry" ? { std: "global" } : {};
  const reward = await loadReward(parseRewardConfig({ kind: name, ...options }), {
    selfCheck: false,
  });
  try {
    const { gradient } = await reward.score(images, [], { gradient: true });
    if (gradient === undefined) throw new Error(`Reward ${name} answered no gradient`);
    return gradient;
  } finally {
    await reward.dispose();
  }
}
