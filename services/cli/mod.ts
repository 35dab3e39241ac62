export { duration, Progress } from "./progress.ts";
export { csvLine, parseCsv } from "./score/csv.ts";
export { main } from "./main.ts";
