/**
 * `deno task hostile [--count 10000]`: bad requests to a reward server in a process of its own, and bad weight files to
 * this one, over and over. Each must be refused with a message that says what and where; resident memory must stay flat.
 * Linux only.
 */
import { parseArgs } from "node:util";
import { hostileCheckpoints } from "./hostile_checkpoints.ts";
import { hostileFiles } from "./hostile_files.ts";
import { hostileLoras } from "./hostile_loras.ts";
import { hostileRequests } from "./hostile_requests.ts";

const { values } = parseArgs({ options: { count: { type: "string", default: "10000" } } });
const count = Number(values.count);
for (
  const [what, attack] of [
    ["files", hostileFiles],
    ["checkpoints", hostileCheckpoints],
    ["loras", hostileLoras],
    ["requests", hostileRequests],
  ] as const
) {
  const { refused, kinds, before, middle, after, seconds } = await attack(count);
  const mb = (bytes: number) => `${(bytes / 1e6).toFixed(0)} MB`;
  console.log(
    `${refused} ${what} of ${kinds} kinds refused, ${
      (1000 * seconds / count).toFixed(1)
    } ms each; ` +
      `resident memory ${mb(before)} after a tenth of them, ${mb(middle)} halfway, ${
        mb(after)
      } in the end`,
  );
}
