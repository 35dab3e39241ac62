export { duration, Progress } from "./progress.ts";
export { parseCsv } from "./score/csv.ts";
export { main } from "./main.ts";
