import assert from "node:assert/strict";
import { parseAddresses } from "./parse_addresses.ts";

Deno.test("Addresses stand under their names, replicas together", () => {
  const parsed = (text: string) => Object.fromEntries(parseAddresses("--rewards", text));
  assert.deepEqual(parsed("clip=a:1,grpcs://b:1,jpeg=dns:///c:2,"), {
    clip: "a:1,grpcs://b:1",
    jpeg: "dns:///c:2",
  });
  assert.deepEqual(parsed(""), {});
  const faults: readonly (readonly [string, RegExp])[] = [
    ["a:1", /^Option --rewards has "a:1", expected NAME=HOST:PORT$/],
    ["clip=a:1,clip=b:1", /^Option --rewards names clip twice$/],
    ["clip=a", /^Option --rewards has "a" for clip, expected HOST:PORT or grpcs:/],
    ["clip=a:1,a:1", /^Option --rewards has "a:1,a:1" for clip, expected/],
    ["clip=dns:///a:1,b:2", /has "dns:\/\/\/a:1,b:2" for clip, expected/],
    ["clip=a:1,b c=d:1", /^Option --rewards has "b c=d:1", expected NAME=HOST:PORT$/],
  ];
  for (const [text, message] of faults) assert.throws(() => parsed(text), { message }, text);
});
