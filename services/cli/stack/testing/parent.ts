/** A parent that starts a gateway, prints its process id, and does nothing more. */
import { fileURLToPath } from "node:url";
import { ServiceProcess } from "../service_process.ts";

const gateway = await ServiceProcess.start({
  name: "gateway",
  entry: fileURLToPath(new URL("../../../gateway/main.ts", import.meta.url)),
  args: ["--trainer", "127.0.0.1:1", "--port", "0"],
  permissions: ["--allow-all"],
});
console.log(gateway.pid);
await gateway.ended;
