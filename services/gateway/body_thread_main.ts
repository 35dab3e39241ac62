/// <reference lib="deno.worker" />
import { RewardService, TrainerService } from "../../proto/mod.ts";
import { MessageSchemas } from "../rpc/mod.ts";
import { answerBody, type BodyQuestion } from "./body_reader.ts";

const inputs = new Map(
  [RewardService, TrainerService].flatMap(({ methods }) =>
    methods.map(({ input }) => [input.typeName, input] as const)
  ),
);
const schemas = new MessageSchemas();

self.onmessage = ({ data }: MessageEvent<BodyQuestion>) => {
  const descriptor = inputs.get(data.typeName);
  if (!descriptor) throw new TypeError(`No method takes a ${data.typeName}`);
  const answer = answerBody(descriptor, data, schemas);
  self.postMessage(answer, "message" in answer ? [answer.message.buffer] : []);
};
