/** The reward server's program with fake rewards, for tests. */
import { main } from "../main.ts";

Deno.exit(await main(Deno.args, { worker: new URL("./fake_worker.ts", import.meta.url) }));
