import { createLogger } from "../../base/mod.ts";
import {
  type RewardServer,
  rewardServerSchema,
  startRewardServer,
} from "../../services/reward/mod.ts";

/** Starts a reward server on a free port, for clients to be tried on. */
export async function testServer(
  rewards: readonly Readonly<Record<string, unknown> & { kind: string }>[],
  options: Readonly<Record<string, unknown>> = {},
): Promise<RewardServer> {
  const config = rewardServerSchema.parse({ port: 0, rewards, threads: 1, ...options });
  return await startRewardServer(config, { log: createLogger({ level: "silent" }) });
}

/** Runs a program to its end. */
export async function run(
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }> {
  const { code, stdout, stderr } = await new Deno.Command(command, { args: [...args], env })
    .output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes).trim();
  return { code, stdout: text(stdout), stderr: text(stderr) };
}
