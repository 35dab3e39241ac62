import { spawn } from "node:child_process";
import { openSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { type Command, UsageError } from "../command.ts";
import { duration } from "../progress.ts";
import { checkStack } from "../stack/check_stack.ts";
import { choosePorts } from "../stack/choose_ports.ts";
import { localPlace } from "../stack/local_place.ts";
import { STACK_OPTION } from "../stack/option.ts";
import { EMBEDDED_STACK, readStack, type Stack, stackFile } from "../stack/read_stack.ts";
import { serviceDefinitions } from "../stack/service_definition.ts";
import { type ServiceStatus, type StackState, StateFolder } from "../stack/state_folder.ts";
import { Supervisor } from "../stack/supervisor.ts";
import { typed } from "../typed.ts";

const POLL_MS = 200;

/** Starts the stack. */
export const up: Command = {
  name: "up",
  summary: "Start the stack's services as local processes and keep them running",
  usage: "[--stack FILE] [--only NAME,…] [--detach]",
  options: {
    ...STACK_OPTION,
    only: {
      type: "string",
      value: "NAME,…",
      help: "start these of its services alone, as on a machine of their own",
    },
    detach: { type: "boolean", short: "d", help: "return once everything is ready" },
    json: { type: "boolean", help: "print the services as JSON once they are ready" },
  },
  examples: [
    "drtune up",
    "drtune up --detach && drtune status",
    "drtune up --stack my-stack.yaml",
    "drtune up --only clip,symmetry",
  ],
  async run(args, signal) {
    if (args.positionals.length > 0) throw new UsageError(`Unexpected "${args.positionals[0]}"`);
    const stack = await readStack(await stackFile(args.text("stack")));
    const folder = new StateFolder(stack.state);
    const only = args.text("only")?.split(",").map((name) => name.trim());
    const names = serviceDefinitions(stack, localPlace(stack)).map(({ name }) => name);
    const strange = only?.find((name) => !names.includes(name));
    if (strange !== undefined) {
      throw new UsageError(`No service "${strange}" in ${stack.file}: it has ${names.join(", ")}`);
    }
    const options = { folder, json: args.flag("json"), signal, only };
    return args.flag("detach") ? await detached(stack, options) : await attached(stack, options);
  },
};

interface Options {
  /** Names of the services to start. Default: all. */
  readonly only: readonly string[] | undefined;
  readonly folder: StateFolder;
  readonly json: boolean;
  readonly signal: AbortSignal;
}

/** Throws what keeps the stack from starting; says what does not. */
async function preflight(stack: Stack): Promise<void> {
  const problems = await checkStack(stack);
  for (const { severity, where, message, advice } of problems) {
    if (severity === "warning") console.error(`Warning: ${where}: ${message}; ${advice}`);
  }
  const errors = problems.filter(({ severity }) => severity === "error");
  if (errors.length === 0) return;
  throw new Error(
    ["The stack cannot start", ...errors.map((p) => `${p.where}: ${p.message}; ${p.advice}`)]
      .join("\n  "),
  );
}

function alreadyRunning(state: StackState | undefined): Error {
  const which = state === undefined ? "" : ` (${state.file}, process ${state.pid})`;
  return new Error(
    `The stack is running already${which}: "${typed("status")}" shows it, "${
      typed("down")
    }" ends it`,
  );
}

async function attached(
  described: Stack,
  { folder, json, signal, only }: Options,
): Promise<number> {
  const running = await folder.running();
  if (running !== undefined) throw alreadyRunning(running);
  await preflight(described);
  if (!await folder.take()) throw alreadyRunning(undefined);
  const stack = choosePorts(described);
  const started = performance.now();
  const count = only?.length ?? stack.rewards.reduce((sum, { replicas }) => sum + replicas, 2);
  console.error(
    `Stack ${stack.name} (${stack.file}): ${count} services, logs in ${folder.logs}`,
  );
  const news = new News();
  const supervisor = await Supervisor.start(stack, {
    folder,
    only,
    onChange: ({ services }) => news.tell(services),
  });
  const stopped = Promise.withResolvers<never>();
  stopped.promise.catch(() => {});
  signal.addEventListener("abort", () => stopped.reject(signal.reason));
  if (signal.aborted) stopped.reject(signal.reason);
  let ready = false;
  try {
    await Promise.race([supervisor.allReady(), stopped.promise]);
    ready = true;
    if (json) console.log(JSON.stringify(supervisor.state));
    console.error(nextSteps(supervisor.state, (performance.now() - started) / 1000));
    return await stopped.promise;
  } catch (error) {
    if (!signal.aborted) throw error;
    console.error("Stopping: the trainer finishes its step");
    return ready ? 0 : 130;
  } finally {
    await supervisor.stop();
    folder.release();
    if (ready) console.error("Stopped");
  }
}

/** Starts a process that goes on after this one, and follows it until everything is ready. */
async function detached(stack: Stack, { folder, json, signal, only }: Options): Promise<number> {
  const running = await folder.running();
  if (running !== undefined) throw alreadyRunning(running);
  await preflight(stack);
  await mkdir(folder.logs, { recursive: true });
  const logFile = folder.logFile("up");
  const log = openSync(logFile, "w");
  const entry = fileURLToPath(new URL("../main.ts", import.meta.url));
  const child = spawn(
    Deno.execPath(),
    [
      ...["run", "--allow-all", "--no-prompt", entry, "up", "--stack", stack.file],
      ...only === undefined ? [] : ["--only", only.join(",")],
    ],
    { detached: true, stdio: ["ignore", log, log] },
  );
  let ended = false;
  child.on("exit", () => ended = true);
  const started = performance.now();
  const news = new News();
  try {
    while (true) {
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      signal.throwIfAborted();
      const state = await folder.running();
      if (state !== undefined && state.pid === child.pid) {
        news.tell(state.services);
        if (state.services.every((s) => s.state === "ready")) {
          if (json) console.log(JSON.stringify(state));
          console.error(nextSteps(state, (performance.now() - started) / 1000, true));
          return 0;
        }
      }
      if (ended) {
        const said = (await Deno.readTextFile(logFile)).trim();
        throw new Error(`The stack did not start. ${logFile} ends with:\n${said.slice(-4000)}`);
      }
    }
  } catch (error) {
    if (!ended) child.kill("SIGTERM");
    throw error;
  } finally {
    child.unref();
  }
}

/** Says what changed, a line for each service. */
class News {
  readonly #told = new Map<string, string>();

  tell(services: readonly ServiceStatus[]): void {
    const width = Math.max(...services.map(({ name }) => name.length));
    for (const { name, state, reason, address, restarts } of services) {
      const told = `${state} ${restarts}`;
      if (this.#told.get(name) === told) continue;
      this.#told.set(name, told);
      // Stopping is said once for all.
      if (state === "starting" || state === "stopping" || state === "stopped") continue;
      const why = (reason.split("\n", 1)[0] ?? "").replace(/:$/, "");
      const again = state === "ready" && restarts > 0 ? "again" : "";
      console.error(`  ${[name.padEnd(width), state, address, again || why].join("  ").trimEnd()}`);
    }
  }
}

/** What a person does next. */
function nextSteps(state: StackState, seconds: number, isDetached = false): string {
  const { services } = state;
  const addressOf = (kind: string) => services.find((s) => s.kind === kind)?.address ?? "";
  const token = state.trainerTokenFile === undefined
    ? ""
    : ` -H "authorization: Bearer $(head -1 ${state.trainerTokenFile})"`;
  const trainer = addressOf("trainer");
  const { ca, cert, key } = state.clientTls ?? {};
  const connection = trainer.startsWith("grpcs://")
    ? [ca && ` -cacert ${ca}`, cert && ` -cert ${cert} -key ${key}`].filter(Boolean).join("")
    : " -plaintext";
  const config = state.file === EMBEDDED_STACK ? "configs/books.yaml" : "RUN.yaml";
  const gateway = addressOf("gateway");
  return [
    `Everything is ready after ${duration(seconds)}`,
    "",
    ...gateway === "" ? [] : [`  Live page     http://${gateway}`],
    ...trainer === "" ? [] : [
      `  Train         ${typed(`train --config ${config}`)}`,
      `  By gRPC       grpcurl${connection}${token} ${trainer.replace("grpcs://", "")} list`,
    ],
    `  Stop          ${isDetached ? typed("down") : "Ctrl-C"}`,
  ].join("\n");
}
