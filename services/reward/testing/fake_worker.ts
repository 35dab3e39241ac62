/**
 * A reward's process with a fake reward, for tests. Its record may ask for faults; a prompt that is a path keeps it
 * computing until there is such a file.
 */
import { existsSync } from "node:fs";
import { z } from "zod";
import { serveReward } from "../serve_reward.ts";
import { fakeReward } from "./fake_reward.ts";

const recordSchema = z.looseObject({
  name: z.string(),
  scale: z.number().default(1),
  readsPrompt: z.boolean().default(false),
  /** Blocks the thread this long in every run, as a model does. */
  blockMs: z.number().default(0),
  /** The load throws this. */
  fails: z.string().optional(),
});

await serveReward((record) => {
  const { name, scale, readsPrompt, blockMs, fails } = recordSchema.parse(record);
  if (fails !== undefined) return Promise.reject(new Error(fails));
  const reward = fakeReward({
    name,
    scale,
    readsPrompt,
    onRun: (_count, prompts) => {
      if (prompts.includes("crash")) Deno.exit(7);
      const end = performance.now() + blockMs;
      while (performance.now() < end);
      if (prompts.includes("hang")) { while (true); }
      for (const prompt of prompts) if (prompt.startsWith("/")) { while (!existsSync(prompt)); }
    },
  });
  return Promise.resolve(reward);
});
