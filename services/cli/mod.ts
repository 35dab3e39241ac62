export { duration, Progress } from "./progress.ts";
