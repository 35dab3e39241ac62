// The control characters are what this file is about.
// deno-lint-ignore-file no-control-regex
import { fixC1, unescapeHtml, unescapeStrict } from "./_html_entities.ts";

/** Passes over one line; nested escapes such as `&amp;amp;lt;` need one each. */
const MAX_PASSES = 8;

const LIGATURES: ReadonlyMap<string, string> = new Map([
  ..."ĲIJ ĳij ŉʼn ǱDZ ǲDz ǳdz ǄDŽ ǅDž ǆdž ǇLJ ǈLj ǉlj ǊNJ ǋNj ǌnj ﬀff ﬁfi ﬂfl ﬃffi ﬄffl ﬅſt ﬆst"
    .split(" ")
    .map((pair): [string, string] => [pair.slice(0, 1), pair.slice(1)]),
]);

/**
 * Text as open_clip cleans it before its tokenizer: `ftfy.fix_text` (escapes, ligatures, widths, quotes, line breaks,
 * control characters, NFC), HTML unescaped twice, white space collapsed, lower case. Of ftfy the repair of text that was
 * decoded in a wrong encoding is left out: it guesses.
 */
export function cleanOpenClipText(text: string): string {
  const unescaped = unescapeHtml(unescapeHtml(fixText(text)));
  // Python counts four separator controls as white space too.
  return unescaped.replace(/[\p{White_Space}\x1c-\x1f]+/gu, " ").trim().toLowerCase();
}

function fixText(text: string): string {
  let isEscaped = true;
  return text.split(/(?<=\n)/).map((line) => {
    // Text with a tag in it is taken for HTML source from there on, in which escapes are meant.
    if (line.includes("<")) isEscaped = false;
    return fixLine(line, { isEscaped });
  }).join("");
}

function fixLine(line: string, { isEscaped }: { isEscaped: boolean }): string {
  for (let pass = 0; pass < MAX_PASSES; pass++) {
    const before = line;
    if (isEscaped) line = unescapeStrict(line);
    line = fixC1(line)
      .replace(/[Ĳĳŉ\u01c4-\u01cc\u01f1-\u01f3\ufb00-\ufb06]/g, (c) => LIGATURES.get(c) ?? c)
      .replace(/[\u3000\uff01-\uffef]/g, (c) => c.normalize("NFKC"))
      .replace(/[\u201c-\u201f]/g, '"')
      .replace(/[\u02bc\u2018-\u201b]/g, "'")
      .replace(/\r\n?|[\u2028\u2029\u0085]/g, "\n")
      .toWellFormed()
      .replace(/\x1b\[[\d;]*[a-zA-Z]/g, "")
      .replace(/[\0-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]/g, "")
      .normalize("NFC");
    if (line === before) break;
  }
  return line;
}
