import assert from "node:assert/strict";
import { parseProtoComments } from "./proto_comments.ts";

Deno.test("Comments are found by the full name of what they stand above", () => {
  const comments = parseProtoComments([`syntax = "proto3";

package a.v1;

// A service.
service S {
  // Asks,
  // and answers.
  rpc Ask(M) returns (M);
}

// A message.
message M {
  // Either.
  oneof either {
    // First.
    string first = 1;
  }
  // By name.
  map<string, double> values = 2;
  repeated int32 bare = 3;
}

// A choice.
enum E {
  // None.
  E_UNSPECIFIED = 0;
}
`]);
  assert.deepEqual(Object.fromEntries(comments), {
    "a.v1.S": "A service.",
    "a.v1.S.Ask": "Asks, and answers.",
    "a.v1.M": "A message.",
    "a.v1.M.either": "Either.",
    "a.v1.M.first": "First.",
    "a.v1.M.values": "By name.",
    "a.v1.E": "A choice.",
    "a.v1.E.E_UNSPECIFIED": "None.",
  });
});
