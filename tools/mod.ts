export * from "./find_client.ts";
export * from "./python_env.ts";
