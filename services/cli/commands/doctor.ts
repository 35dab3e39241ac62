import { stat, statfs } from "node:fs/promises";
import { freemem } from "node:os";
import { join, resolve } from "node:path";
import { loadReward, parseRewardConfig } from "../../../rewards/mod.ts";
import { availableProviders, explainCuda, type Provider } from "../../../runtime/mod.ts";
import { type Command, UsageError } from "../command.ts";
import { checkStack } from "../stack/check_stack.ts";
import { REWARD_RECIPES } from "../init/reward_recipes.ts";
import { STACK_OPTION } from "../stack/option.ts";
import { readStack, type Stack, stackFile } from "../stack/read_stack.ts";
import { StateFolder } from "../stack/state_folder.ts";
import { typed } from "../typed.ts";

/** What the tests run on, as in CONTRIBUTING.md. */
const EXPECTED_DENO = "2.9.6";

/** What one check found. */
interface Finding {
  readonly check: string;
  readonly result: "ok" | "warning" | "error";
  readonly detail: string;
  /** What to do about it. */
  readonly advice?: string;
}

/** Checks this machine and the stack's description. */
export const doctor: Command = {
  name: "doctor",
  summary: "Check this machine and the stack: providers, files, ports, disk, gradients of rewards",
  usage: "[--stack FILE] [--quick]",
  options: {
    ...STACK_OPTION,
    quick: { type: "boolean", help: "do not load the rewards to check their gradients" },
    json: { type: "boolean", help: "print JSON" },
  },
  examples: ["drtune doctor", "drtune doctor --stack my-stack.yaml --json"],
  exitCodes: { 0: "no error was found; there may be warnings", 1: "an error was found" },
  async run(args, signal) {
    if (args.positionals.length > 0) throw new UsageError(`Unexpected "${args.positionals[0]}"`);
    const findings: Finding[] = [];
    const json = args.flag("json");
    for await (const finding of checks(args.text("stack"), { quick: args.flag("quick") })) {
      signal.throwIfAborted();
      findings.push(finding);
      if (!json) say(finding);
    }
    const count = (result: Finding["result"]) => findings.filter((f) => f.result === result).length;
    if (json) console.log(JSON.stringify({ findings }));
    else console.log(`Errors: ${count("error")}, warnings: ${count("warning")}`);
    return count("error") > 0 ? 1 : 0;
  },
};

const MARKS = { ok: "ok", warning: "warn", error: "FAIL" } as const;

function say({ check, result, detail, advice }: Finding): void {
  console.log(`${MARKS[result].padEnd(4)}  ${check}: ${detail}`);
  if (advice !== undefined) console.log(`      ${advice}`);
}

async function* checks(
  given: string | undefined,
  { quick }: { readonly quick: boolean },
): AsyncIterable<Finding> {
  yield denoVersion();
  const { stack, finding } = await described(given);
  yield finding;
  yield* providers(stack);
  yield memory();
  if (stack === undefined) return;
  yield* await machine(stack);
  yield await pipelines(stack);
  if (!quick) yield* gradients(stack);
}

function denoVersion(): Finding {
  const check = "Deno";
  const found = Deno.version.deno;
  return found === EXPECTED_DENO ? { check, result: "ok", detail: found } : {
    check,
    result: "warning",
    detail: `${found}, while ${EXPECTED_DENO} is what the tests run on`,
    advice: `npm install --global deno@${EXPECTED_DENO}`,
  };
}

async function described(
  given: string | undefined,
): Promise<{ readonly stack?: Stack; readonly finding: Finding }> {
  const check = "Description";
  const file = await stackFile(given);
  try {
    const stack = await readStack(file);
    const count = `${stack.rewards.length} reward services, a trainer, a gateway`;
    return { stack, finding: { check, result: "ok", detail: `${file}: ${count}` } };
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    const advice = "mend the file; deploy/stack.schema.json tells editors what it may hold";
    return { finding: { check, result: "error", detail: error.message, advice } };
  }
}

async function* providers(stack: Stack | undefined): AsyncIterable<Finding> {
  const wanted = new Map<Provider, string[]>();
  const services = stack === undefined
    ? []
    : [...stack.rewards, { name: "trainer", provider: stack.trainer.provider }];
  for (const { name, provider } of services) {
    wanted.set(provider, [...wanted.get(provider) ?? [], name]);
  }
  for (const { provider, available, reason = "", details } of await availableProviders()) {
    const check = `Provider ${provider}`;
    const users = wanted.get(provider) ?? [];
    if (available) yield { check, result: "ok", detail: "works" };
    else if (users.length === 0) {
      yield { check, result: "ok", detail: "not available, not asked for" };
    } else if (provider === "cuda") {
      const { what, mend } = explainCuda({ reason, details });
      yield {
        check,
        result: "error",
        detail: `does not work, and ${users.join(", ")} ask for it: ${what}`,
        advice: CUDA_ADVICE[mend](),
      };
    } else {
      yield {
        check,
        result: "error",
        detail: `does not work, and ${users.join(", ")} ask for it: ${reason}`,
        advice: [`take another provider, e.g. cpu`, ...details.slice(-3)].join("\n      "),
      };
    }
  }
}

/** What mends provider cuda, by `CudaFault.mend`. */
const CUDA_ADVICE = {
  setup: () => `"${typed("gpu setup")}" brings what is missing`,
  driver: () =>
    `install NVIDIA's driver, 580 or newer, by the system's packages; then "${typed("gpu setup")}"`,
  nothing: () => "take provider cpu",
} as const;

function memory(): Finding {
  const mib = Math.round(freemem() / 2 ** 20);
  return { check: "Memory", result: "ok", detail: `${mib} MiB free` };
}

/** Ports, folders, tokens, disk, and what is running. */
async function machine(stack: Stack): Promise<readonly Finding[]> {
  const running = await new StateFolder(stack.state).running().catch(() => undefined);
  const problems = await checkStack(stack, { ports: running === undefined });
  const findings = problems.map(({ severity, where, message, advice }): Finding => ({
    check: where,
    result: severity,
    detail: message,
    advice,
  }));
  const { bavail, bsize } = await statfs(stack.runs).catch(() => ({ bavail: 0, bsize: 0 }));
  if (findings.every(({ result }) => result !== "error")) {
    const what = `ports, folders and tokens, ${
      Math.round(bavail * bsize / 2 ** 30)
    } GiB left for runs`;
    findings.push({ check: "Machine", result: "ok", detail: what });
  }
  for (const { name, state, reason, log } of running?.services ?? []) {
    if (state === "ready") continue;
    const detail = `${name} is ${state}${reason === "" ? "" : `: ${reason}`}`;
    findings.push({ check: "Running stack", result: "warning", detail, advice: `see ${log}` });
  }
  return findings;
}

/** The pipelines below the folder of models that runs can name. */
async function pipelines(stack: Stack): Promise<Finding> {
  const check = "Models";
  const names: string[] = [];
  const look = async (folder: string, depth: number) => {
    for await (const { name, isDirectory } of Deno.readDir(join(stack.models, folder))) {
      if (name === "model_index.json") names.push(folder || ".");
      if (isDirectory && depth > 0) await look(join(folder, name), depth - 1);
    }
  };
  try {
    await look("", 2);
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error);
    return { check, result: "error", detail, advice: "give this user the right to read all of it" };
  }
  if (names.length > 0) return { check, result: "ok", detail: names.sort().join(", ") };
  return {
    check,
    result: "warning",
    detail: `no model_index.json in ${stack.models} or two folders below`,
    advice: `put a model in the diffusers layout there, for runs to train: "${
      typed("fetch")
    }" lists published ones`,
  };
}

/** Loads every reward; that compares its gradient with a finite difference. */
async function* gradients(stack: Stack): AsyncIterable<Finding> {
  for (const { name, records, provider, threads } of stack.rewards) {
    for (const record of records) {
      const check = `Reward ${[name, record["name"]].filter(Boolean).join("/")}`;
      const started = performance.now();
      try {
        const reward = await loadReward(parseRewardConfig(record), {
          baseDir: stack.models,
          cacheDir: `${stack.state}/weights`,
          provider,
          ...(threads !== undefined && { threads }),
        });
        const { selfCheck, digest } = reward.info;
        await reward.dispose();
        const error = selfCheck?.relativeError;
        const agreement = error === undefined
          ? "surrogate gradient, finite"
          : `gradient within ${(100 * error).toPrecision(2)} % of a finite difference`;
        const seconds = ((performance.now() - started) / 1000).toFixed(1);
        yield {
          check,
          result: "ok",
          detail: `${agreement}, weights ${digest.slice(0, 12)}, loaded in ${seconds} s`,
        };
      } catch (error) {
        yield {
          check,
          result: "error",
          detail: error instanceof Error ? error.message : String(error),
          advice: await missing(record, stack.models) ??
            "mend the record; its paths are in the folder of models",
        };
      }
    }
  }
}

/** The command that brings a record's weights, where they are not there and are published ones. */
async function missing(
  record: Readonly<Record<string, unknown>>,
  models: string,
): Promise<string | undefined> {
  const recipe = REWARD_RECIPES[String(record["kind"])];
  const paths = [record["weights"], record["head"]].filter((path) => typeof path === "string");
  const isThere = (path: string) => stat(resolve(models, path)).then(() => true, () => false);
  if (recipe === undefined || (await Promise.all(paths.map(isThere))).every(Boolean)) {
    return undefined;
  }
  return `"${typed(`fetch ${recipe.fetch.join(" ")}`)}" brings the published weights`;
}
