/** The worker of bench/queue.ts: fetches the LoRA and answers gradients of its shapes, without computing anything. */
import process from "node:process";
import { createLogger } from "../base/mod.ts";
import { connectNats } from "../services/cluster/mod.ts";
import { ClusterWorker, LoraCache } from "../services/worker/mod.ts";

const [server = ""] = Deno.args;
const log = createLogger({ level: "warn" });
const nats = await connectNats({ servers: [server] }, { name: "bench", log });
const worker = new ClusterWorker({
  ...{ name: "bench", nats, log, rewardTls: {}, session: {}, models: ".", memoryBytes: 0 },
  hardware: { name: "none", memoryBytes: 0 },
  open: () => {
    const loras = new LoraCache(nats);
    return Promise.resolve({
      compute: async ({ lora, index }) => {
        if (lora === undefined) throw new TypeError("A job without LoRA");
        const gradients = { ...await loras.get(lora) };
        return { gradients, loss: index, rewards: {}, seconds: {} };
      },
      close: () => Promise.resolve(),
    });
  },
});
console.log("{}");
for await (const line of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
  if (line.trim() === "") break;
  const { user, system } = process.cpuUsage();
  console.log(JSON.stringify({ cpuSeconds: (user + system) / 1e6 }));
}
await worker.drain();
await nats.close();
Deno.exit(0);
