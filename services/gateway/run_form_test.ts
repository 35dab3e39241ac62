import assert from "node:assert/strict";
import { RunState } from "../../proto/mod.ts";
import { findChromium } from "./testing/chromium.ts";
import { withPage } from "./testing/with_page.ts";

const of = (path: string, what: string) =>
  `document.querySelector('[data-field="${path}"] ${what}')`;
const says = (text: string) => `document.body.innerText.includes(${JSON.stringify(text)})`;
const YAML = 'document.querySelector(".editor").value';

Deno.test({
  name:
    "In a browser: a run's form and its YAML are in step both ways, the trainer's estimate and faults stand in it",
  ignore: findChromium() === undefined,
  fn: () =>
    withPage(async ({ page, stack }) => {
      await page.click("Start a run");
      // What can start here stands first and is chosen; the others say what is missing.
      await page.until(`${YAML}.includes("model: pipeline")`);
      await page.until(says("Missing here: model flux-dev"));
      await page.until(says("256 MiB"));
      const choose = async (path: string, value: string) => {
        const select = of(path, "select");
        await page.until(`!!${select}`);
        await page.evaluate(
          `{ const e = ${select}; e.value = ${JSON.stringify(value)};` +
            'e.dispatchEvent(new Event("input", { bubbles: true })); }',
        );
      };

      // The form changes the text, which keeps its comment.
      await page.fill('[data-field="lora.rank"] input', "8");
      await page.until(`${YAML}.includes("rank: 8")`);
      assert.match(String(await page.evaluate(YAML)), /^# Two iterations/);
      await page.fill('[data-field="batch.size"] input', "4");
      await page.until(says("1 GiB"));

      // The text changes the form.
      const text = String(await page.evaluate(YAML));
      await page.fill(".editor", text.replace("rank: 8", "rank: 12"));
      await page.until(`${of("lora.rank", "input")}.value === "12"`);

      // While the text cannot be read the form keeps the last that could.
      await page.fill(".editor", `${text.replace("rank: 8", "rank: 12")}seed: [1\n`);
      await page.until('document.querySelector(".gutter .wrong")?.textContent === "13"');
      assert.equal(await page.evaluate(`${of("lora.rank", "input")}.value`), "12");
      assert.equal(await page.evaluate(`${of("lora.rank", "input")}.matches(":disabled")`), true);
      await page.fill(".editor", text.replace("rank: 8", "rank: 12"));
      await page.until(`!${of("lora.rank", "input")}.matches(":disabled")`);

      // A method shows the parameters that it has; those that are set and not its own stay in sight.
      const shown = (name: string) => `!${of(`method.${name}`, "input")}.closest("[hidden]")`;
      assert.equal(await page.evaluate(shown("tau")), false);
      await page.fill('[data-field="method.k"] input', "");
      await page.fill('[data-field="method.m"] input', "");
      await choose("method.name", "leapalign");
      await page.until(`${shown("tau")} && !${shown("k")}`);
      await choose("method.name", "drtune");

      // The model decides which samplers there are.
      const samplers = `[...${of("sampler.kind", "select")}.options].map((o) => o.value).join()`;
      assert.equal(await page.evaluate(samplers), ",ddpm,ddim,dpmsolver++");
      await choose("model", "flow_pipeline");
      await page.until(`${samplers}.includes(",flow-euler,dpmsolver++")`);
      await choose("sampler.kind", "flow-euler");

      // Rewards are picked from those served, with their direction and health.
      const facts = '[...document.querySelectorAll(".reward-facts")].map((e) => e.textContent)';
      assert.deepEqual(await page.evaluate(facts), [
        "smaller is better, looks at the image alone, answers",
        "larger is better, reads the prompt, answers",
      ]);
      await page.evaluate(`document.querySelector('[aria-label="Remove reward 1"]').click()`);
      await page.until(`${facts}.length === 1 && !${YAML}.includes("symmetry")`);
      await page.click("Add a reward");
      await page.until(`${facts}.length === 2 && ${YAML}.includes("name: symmetry")`);
      await page.fill('[data-field="rewards.1.weight"] input', "0.5");

      // Prompts come from a file that is uploaded, or one of the trainer's.
      await page.evaluate(
        '{ const files = new DataTransfer(); files.items.add(new File(["a fox\\n\\nan owl\\n"], "p.txt"));' +
          `const e = ${of("prompts", "input[type=file]")}; e.files = files.files;` +
          'e.dispatchEvent(new Event("change")); }',
      );
      await page.until(`${YAML}.includes("an owl")`);
      await page.evaluate(`${of("heldOutPrompts", "input[value=file]")}.click()`);
      await page.until(`${YAML}.includes("prompts/books.txt")`);

      // What the trainer refuses stands at its field.
      await page.fill('[data-field="lora.rank"] input', "0");
      const fault = `${of("lora.rank", ".fault")}.textContent`;
      await page.until(`${fault}.includes("Field lora.rank is 0, expected 1 or more")`);
      assert.equal(await page.evaluate(`${of("lora.rank", "input")}.ariaInvalid`), "true");
      await page.fill('[data-field="lora.rank"] input', "6");
      await page.until(`${fault} === ""`);

      await page.fill('input[type="text"]', "by-form");
      await page.click("Start");
      await page.until('location.hash === "#/runs/by-form"');
      const { run } = await stack.client.getRun({ runId: "by-form" });
      assert.equal(run?.state, RunState.RUNNING);
      assert.deepEqual(
        [run?.config?.lora?.rank, run?.config?.batch?.size, run?.config?.model],
        [6, 4, "flow_pipeline"],
      );
      assert.deepEqual(run?.rewards.map(({ name, weight }) => [name, weight]), [
        ["clip", 0.3],
        ["symmetry", 0.5],
      ]);
      const { prompts, heldOutPrompts } = run?.config ?? {};
      assert.deepEqual(
        prompts?.source.case === "list" && prompts.source.value.prompts,
        ["a fox", "an owl"],
      );
      assert.deepEqual(heldOutPrompts?.source, { case: "file", value: "prompts/books.txt" });
    }),
});
