import {
  availableProviders,
  bindingFolder,
  CUDA_FOLDER,
  explainCuda,
} from "../../../runtime/mod.ts";
import { type Command, UsageError } from "../command.ts";
import { checkSpace, gigabytes } from "../fetch/check_space.ts";
import { CUDA_WHEELS } from "../gpu/cuda_wheels.ts";
import { installCuda } from "../gpu/install_cuda.ts";
import { indexOf } from "../gpu/wheel_index.ts";
import { Progress } from "../progress.ts";

/** Bytes of the libraries, and of the disk while the largest wheel lies beside them. */
const [UNPACKED, ROOM] = [1.6e9, 2.1e9];

/** Brings what an NVIDIA GPU needs beside its driver. */
export const gpu: Command = {
  name: "gpu",
  summary:
    "Bring what an NVIDIA GPU needs beside its driver: ONNX Runtime's CUDA part and CUDA's libraries",
  usage: "setup [--force]",
  options: {
    force: { type: "boolean", help: "also where the GPU works already, or there is none" },
  },
  examples: ["drtune gpu setup"],
  exitCodes: { 1: "it failed, or the GPU still does not work; the reason is on stderr" },
  async run(args, signal) {
    const [verb, more] = args.positionals;
    if (verb !== "setup" || more !== undefined) {
      throw new UsageError(`Found "${args.positionals.join(" ")}", expected setup`);
    }
    const before = await cuda();
    if (before === undefined && !args.flag("force")) {
      console.log("Provider cuda works already");
      return 0;
    }
    const isPossible = Deno.build.os === "linux" && Deno.build.arch === "x86_64";
    if (before !== undefined && (!isPossible || before.mend !== "setup" && !args.flag("force"))) {
      const hint = isPossible ? "; --force brings CUDA's libraries nevertheless" : "";
      throw new Error(`${before.what}${hint}`);
    }
    let progress = new Progress();
    let isFirst = true;
    let [done, total, note] = [0, 0, ""];
    await installCuda(indexOf(Deno.env), {
      wheels: CUDA_WHEELS,
      folder: CUDA_FOLDER,
      binding: bindingFolder(),
    }, {
      signal,
      onWheel: async (wheel, size) => {
        progress.end();
        if (isFirst) {
          const free = gigabytes(await checkSpace(CUDA_FOLDER, ROOM));
          const taken = gigabytes(UNPACKED);
          progress.say(
            `Up to 1.2 GB come, and take ${taken} GB in ${CUDA_FOLDER}; ${free} GB of the disk are free`,
          );
        }
        isFirst = false;
        progress = new Progress();
        [done, total, note] = [0, size, wheel.project];
      },
      onBytes: (count) => {
        done += count;
        progress.updateBytes({ done, total, note });
      },
    });
    progress.end();
    const after = await cuda();
    if (after === undefined) {
      console.log("Provider cuda works");
      return 0;
    }
    console.error(
      `The libraries are in ${CUDA_FOLDER}; provider cuda does not work yet: ${after.what}`,
    );
    return args.flag("force") ? 0 : 1;
  },
};

/** Why provider cuda does not work; undefined where it does. */
async function cuda() {
  const status = (await availableProviders()).find(({ provider }) => provider === "cuda");
  return status === undefined || status.available ? undefined : explainCuda(status);
}
