import { Buffer } from "node:buffer";
import sharp from "sharp";
import { escaped } from "../report/html.ts";
import type { StudyFolder } from "./study_folder.ts";

interface Study {
  readonly title: string;
  readonly question: string;
}

/** The beginning of a study's page: what it asks, and the command that answers it. */
export function studyHead({ title, question }: Study, command: string): string {
  return `<h1>${escaped(title)}</h1><p>${escaped(question)}</p><pre>${escaped(command)}</pre>`;
}

/** The same in Markdown, a paragraph each. */
export function studyMarkdown({ title, question }: Study, command: string): readonly string[] {
  return [`# ${title}`, question, `\`\`\`sh\n${command}\n\`\`\``];
}

/** Writes a figure into a study's folder, as SVG and as PNG. */
export async function writeFigure(
  folder: StudyFolder,
  { name, svg }: { readonly name: string; readonly svg: string },
): Promise<void> {
  await folder.writeFile(`${name}.svg`, svg);
  const png = await sharp(Buffer.from(svg), { density: 144 }).png({ palette: true }).toBuffer();
  await folder.writeFile(`${name}.png`, png);
}
