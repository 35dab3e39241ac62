import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { ConfigError, readConfig } from "../../launch/mod.ts";
import { UsageError } from "../command.ts";
import { type StackDescription, stackSchema } from "./stack_schema.ts";

/** Root of the project. */
export const ROOT = fileURLToPath(new URL("../../../", import.meta.url));

/** Describes the services over the embedded models. */
export const EMBEDDED_STACK = resolve(ROOT, "deploy/stack.yaml");

/** A description with absolute paths, and where it came from. */
export interface Stack extends StackDescription {
  /** Its file. */
  readonly file: string;
}

/**
 * The file that describes the stack: `--stack`, else DRTUNE_STACK, else `stack.yaml` in the current folder, else the
 * one over the embedded models.
 */
export async function stackFile(given: string | undefined): Promise<string> {
  const named = given ?? Deno.env.get("DRTUNE_STACK");
  if (named !== undefined && named !== "") return resolve(named);
  const here = resolve("stack.yaml");
  return await Deno.stat(here).then(({ isFile }) => isFile, () => false) ? here : EMBEDDED_STACK;
}

/** Reads a description. Throws `UsageError` with a line for each fault: file, line, field, found, expected. */
export async function readStack(file: string): Promise<Stack> {
  let description: StackDescription;
  try {
    description = await readConfig(file, stackSchema);
  } catch (error) {
    if (error instanceof ConfigError) throw new UsageError(error.message, { cause: error });
    throw error;
  }
  const absolute = (path: string) => resolve(dirname(file), path);
  const files = <T extends Readonly<Record<string, string | undefined>>>(paths: T) => {
    const given = Object.entries(paths).flatMap(([k, v]) =>
      v === undefined ? [] : [[k, v] as const]
    );
    return { ...paths, ...Object.fromEntries(given.map(([k, path]) => [k, absolute(path)])) };
  };
  const { models, runs, state, rewards, trainer, gateway, cluster, clientTls } = description;
  return {
    ...description,
    file,
    models: absolute(models),
    runs: absolute(runs),
    state: absolute(state),
    rewards: rewards.map((reward) => ({
      ...reward,
      ...(reward.tls && { tls: files(reward.tls) }),
      ...(reward.admin && {
        admin: { ...reward.admin, tokenFile: absolute(reward.admin.tokenFile) },
      }),
    })),
    trainer: {
      ...trainer,
      ...(trainer.tokenFile && { tokenFile: absolute(trainer.tokenFile) }),
      ...(trainer.tls && { tls: files(trainer.tls) }),
    },
    gateway: {
      ...gateway,
      ...(gateway.tokenFile && { tokenFile: absolute(gateway.tokenFile) }),
      ...(gateway.presets && { presets: absolute(gateway.presets) }),
    },
    ...(cluster && {
      cluster: {
        ...cluster,
        ...(cluster.tokenFile && { tokenFile: absolute(cluster.tokenFile) }),
        ...(cluster.tls && { tls: files(cluster.tls) }),
      },
    }),
    clientTls: files(clientTls),
  };
}
