export { readSingleFile } from "./read_single_file.ts";
