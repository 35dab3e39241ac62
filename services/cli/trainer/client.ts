import { TrainerService } from "../../../proto/mod.ts";
import { type ClientTlsFiles, readClientTls, readToken } from "../../launch/mod.ts";
import { type GrpcClient, grpcClient } from "../../rpc/mod.ts";
import { checkAnswers, KEEPALIVE } from "../check_answers.ts";
import type { Arguments, Option } from "../command.ts";
import { STACK_OPTION } from "../stack/option.ts";
import { readStack, stackFile } from "../stack/read_stack.ts";
import { StateFolder } from "../stack/state_folder.ts";
import { TLS_OPTIONS, tlsOf } from "../tls_options.ts";
import { typed } from "../typed.ts";

/** Where the trainer is that is started without a port. */
export const DEFAULT_TRAINER = "127.0.0.1:50060";

/** Options of every command that talks to a trainer. */
export const TRAINER_OPTIONS = {
  endpoint: {
    type: "string",
    value: "HOST:PORT",
    help: `the trainer (default: DRTUNE_TRAINER, the running stack's, or ${DEFAULT_TRAINER})`,
  },
  "token-file": {
    type: "string",
    value: "FILE",
    help: "what the trainer asks for (default: DRTUNE_TOKEN_FILE, or the running stack's)",
  },
  ...TLS_OPTIONS,
  ...STACK_OPTION,
  json: { type: "boolean", help: "print JSON" },
} as const satisfies Readonly<Record<string, Option>>;

/** A client of the trainer that is meant; retries while the service starts. */
export async function trainerClient(args: Arguments): Promise<GrpcClient<typeof TrainerService>> {
  const given = args.text("endpoint") ?? (Deno.env.get("DRTUNE_TRAINER") || undefined);
  const running = given === undefined ? await runningTrainer(args) : undefined;
  const tokenFile = args.text("token-file") ??
    (Deno.env.get("DRTUNE_TOKEN_FILE") || undefined) ?? running?.tokenFile;
  const token = tokenFile === undefined ? undefined : await readToken(tokenFile);
  if (given === undefined && running === undefined) {
    console.error(
      `No stack is running here ("${
        typed("up")
      }" starts one): asking for a trainer at ${DEFAULT_TRAINER}`,
    );
  }
  const { address, tls: named } = await tlsOf(args, given ?? running?.address ?? DEFAULT_TRAINER);
  const tls = { ...running && await readClientTls(running.tls), ...named };
  await checkAnswers(address, { what: "The trainer", tls });
  return grpcClient(TrainerService, address, {
    retry: { attempts: 5 },
    tls,
    keepalive: KEEPALIVE,
    ...(token !== undefined && { token }),
  });
}

/** The trainer of the stack that `drtune up` keeps running; undefined where it does not. */
async function runningTrainer(
  args: Arguments,
): Promise<
  {
    readonly address: string;
    readonly tokenFile: string | undefined;
    readonly tls: ClientTlsFiles;
  } | undefined
> {
  const { state } = await readStack(await stackFile(args.text("stack")));
  const running = await new StateFolder(state).running();
  const trainer = running?.services.find(({ kind }) => kind === "trainer");
  return trainer &&
    {
      address: trainer.address,
      tokenFile: running?.trainerTokenFile,
      tls: running?.clientTls ?? {},
    };
}
