export { writeRandomModel } from "./write.ts";
