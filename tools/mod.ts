export * from "./python_env.ts";
