/// <reference lib="deno.worker" />
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { RewardService, RunConfigSchema, TrainerService } from "../../proto/mod.ts";
import { MessageSchemas } from "../rpc/mod.ts";
import { answerBody, type BodyQuestion } from "./body_reader.ts";

const inputs = [RewardService, TrainerService].flatMap(({ methods }) =>
  methods.map(({ input }) => input)
);
const messages = new Map([...inputs, RunConfigSchema].map((input) => [input.typeName, input]));
const schemas = new MessageSchemas();

// The engine lets garbage of hundreds of megabytes lie until there is more: a text of 64 KiB leaves 60.
setFlagsFromString("--expose-gc");
const collect: unknown = runInNewContext("gc");

self.onmessage = async ({ data }: MessageEvent<BodyQuestion>) => {
  const answer = await answerBody(data, { messages, schemas });
  self.postMessage(answer, "message" in answer ? [answer.message.buffer] : []);
  if (typeof collect === "function") collect();
};
