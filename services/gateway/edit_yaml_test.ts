import assert from "node:assert/strict";
import { parse, parseDocument } from "yaml";
import { editYaml as editDocument, type FieldChange } from "./edit_yaml.ts";

const editYaml = (text: string, changes: readonly FieldChange[]) =>
  editDocument(parseDocument(text), changes);

/** As somebody writes it by hand. */
const TEXT = `# What this is for:
# foxes without books.
model: pipeline   # embedded
method: { name: drtune, k: 2 } # a flow map

prompts:
  list:
    prompts:
      - "a fox, and books"   # the first
      - |
        a long prompt
        of two lines
common: &reward
  weight: 1
rewards:
  - { name: clip, <<: *reward }
  - name: symmetry
    weight: 0.5
sample_every: 0x10
`;

const change = (path: FieldChange["path"], value: unknown) => [{ path, value }];

/** Lines without the spaces before their comments. */
const linesOf = (text: string) => text.split("\n").map((line) => line.replace(/ +#/, " #"));

Deno.test("A changed field leaves every other line as it was written, comments and long texts too", () => {
  const after = linesOf(editYaml(TEXT, change(["rewards", 1, "weight"], 2)));
  const before = linesOf(TEXT);
  assert.equal(after.length, before.length);
  assert.deepEqual(after.filter((line, i) => line !== before[i]), ["    weight: 2"]);
});

Deno.test("Fields are added, also where nothing is around them, and taken away with what would be empty", () => {
  const edited = editYaml(TEXT, [
    { path: ["lora", "rankPattern"], value: { to_q: 4 } },
    { path: ["rewards", 2], value: { name: "clip 2" } },
    { path: ["method", "k"], value: null },
  ]);
  const { lora, rewards, method } = parse(edited, { merge: true });
  assert.deepEqual([lora, rewards[2], method], [
    { rankPattern: { to_q: 4 } },
    { name: "clip 2" },
    { name: "drtune" },
  ]);
  assert.equal(editYaml("lora:\n  rank: 4\n", change(["lora", "rank"], null)), "");
  assert.equal(editYaml("", change(["lora", "rank"], 4)), "lora:\n  rank: 4\n");
  assert.equal(editYaml("# mine\n", change(["seed"], 4)), "# mine\n\nseed: 4\n");
});

Deno.test("A field of what is written as nothing is put into it", () => {
  assert.equal(
    editYaml("lora:\nseed: 1\n", change(["lora", "rank"], 4)),
    "lora:\n  rank: 4\nseed: 1\n",
  );
  assert.equal(editYaml("lora: 3\n", change(["lora", "rank"], 4)), "lora:\n  rank: 4\n");
});

Deno.test("A field that an alias stands for is changed where it is named, and nowhere else", () => {
  const text = "a: &one\n  weight: 1\nrewards:\n  - *one\n  - *one\n";
  const { a, rewards } = parse(editYaml(text, change(["rewards", 0, "weight"], 2)));
  assert.deepEqual([a, rewards], [{ weight: 1 }, [{ weight: 2 }, { weight: 1 }]]);
});

Deno.test("A copy has no anchors: aliases behind it mean what they meant", () => {
  const text = "a: &one\n  b: &two\n    c: 1\nd: *one\ne: *two\n";
  const { d, e } = parse(editYaml(text, change(["d", "b", "c"], 2)));
  assert.deepEqual([d, e], [{ b: { c: 2 } }, { c: 1 }]);
});

Deno.test("An index is at most the length of its list, which is made where it is not there", () => {
  assert.deepEqual(parse(editYaml("a: [1]\n", change(["a", 1], 2))), { a: [1, 2] });
  assert.deepEqual(parse(editYaml("", change(["a", 0, "b"], 2))), { a: [{ b: 2 }] });
  for (const index of [2, 4_000_000_000, "b"]) {
    assert.throws(
      () => editYaml("a: [1]\n", change(["a", index], 2)),
      new RangeError(`Index ${JSON.stringify(index)} of a list of 1, expected at most 1`),
    );
  }
});

Deno.test("Names in snake_case stay so, and keys of maps are no names", () => {
  assert.equal(editYaml("sample_every: 5\n", change(["sampleEvery"], 6)), "sample_every: 6\n");
  const text = "lora:\n  rank_pattern:\n    to_q: 4\n";
  assert.equal(
    editYaml(text, change(["lora", "rankPattern"], { to_q: 8 })),
    "lora:\n  rank_pattern:\n    to_q: 8\n",
  );
});
