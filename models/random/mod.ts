export { philox, Random, type Words } from "./random.ts";
