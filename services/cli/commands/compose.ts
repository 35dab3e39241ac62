import { dirname, resolve } from "node:path";
import { type Command, UsageError } from "../command.ts";
import { COMPOSE_VARIANTS, composeYaml } from "../stack/compose.ts";
import { STACK_OPTION } from "../stack/option.ts";
import { readStack, stackFile } from "../stack/read_stack.ts";

/** Writes the stack as a compose file. */
export const compose: Command = {
  name: "compose",
  summary: "Write the stack as a compose file, for Docker and Podman",
  usage: "[--stack FILE] [--out FILE] [--variant stack|gpu|cdi]",
  options: {
    ...STACK_OPTION,
    out: {
      type: "string",
      short: "o",
      value: "FILE",
      help: "file to write (default: to stdout, with paths for the description's folder)",
    },
    variant: {
      type: "string",
      value: "NAME",
      help: "stack (default), or what is laid over it for GPUs: gpu, or cdi",
    },
  },
  examples: [
    "drtune compose --stack my-stack.yaml --out compose.yaml",
    "drtune compose --stack my-stack.yaml --variant cdi --out compose.cdi.yaml",
  ],
  async run(args) {
    if (args.positionals.length > 0) throw new UsageError(`Unexpected "${args.positionals[0]}"`);
    const name = args.text("variant") ?? "stack";
    const variant = COMPOSE_VARIANTS.find((v) => v === name);
    if (variant === undefined) {
      throw new UsageError(
        `Option --variant is "${name}", expected ${COMPOSE_VARIANTS.join(", ")}`,
      );
    }
    const stack = await readStack(await stackFile(args.text("stack")));
    const { rewards, trainer, gateway } = stack;
    if ([...rewards, trainer, gateway].some(({ port }) => port === 0)) {
      throw new UsageError(
        `${stack.file}: a port is 0, expected numbers: containers find one another by them`,
      );
    }
    const out = args.text("out");
    const folder = dirname(out === undefined ? stack.file : resolve(out));
    const text = composeYaml(stack, { folder, variant });
    if (out === undefined) console.log(text.trimEnd());
    else await Deno.writeTextFile(out, text);
    return 0;
  },
};
