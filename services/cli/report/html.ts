import { Buffer } from "node:buffer";

/** Text that stands for itself in HTML, also within quotes. */
export function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;").replaceAll("'", "&#39;");
}

/** A cell of a table: text, or with a mark. */
export type TableCell = string | { readonly text: string; readonly isBest: boolean };

/** A table; the first cell of a row is its head, numbers stand to the right. */
export function htmlTable(
  head: readonly string[],
  rows: readonly (readonly TableCell[])[],
): string {
  const cell = (value: TableCell, i: number) => {
    const { text, isBest } = typeof value === "string" ? { text: value, isBest: false } : value;
    if (i === 0) return `<th scope="row">${escaped(text)}</th>`;
    return `<td>${isBest ? `<b>${escaped(text)}</b>` : escaped(text)}</td>`;
  };
  return `<div class="scroll"><table><thead><tr>${
    head.map((text) => `<th scope="col">${escaped(text)}</th>`).join("")
  }</tr></thead><tbody>${
    rows.map((row) => `<tr>${row.map(cell).join("")}</tr>`).join("")
  }</tbody></table></div>`;
}

/** A picture inside the page. */
export function htmlPicture(png: Uint8Array, alt: string): string {
  const data = Buffer.from(png).toString("base64");
  return `<img alt="${escaped(alt)}" src="data:image/png;base64,${data}">`;
}

const STYLE = `
:root { color-scheme: light dark; --ink: #1f2430; --soft: #4a5162; --line: #d9dde5; --paper: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ee; --soft: #a9b0c0; --line: #3a4152; --paper: #171a21; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 70rem;
  margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child { text-align: left; } thead th { color: var(--soft); font-weight: 600; }
.scroll { overflow-x: auto; } .soft { color: var(--soft); font-size: .9rem; }
svg, img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; } pre { overflow-x: auto; }
`;

/** A whole page that needs nothing but itself: no script, no font, no address. `body` is HTML. */
export function htmlPage(title: string, body: string): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="content-security-policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>${escaped(title)}</title>
<style>${STYLE}</style>
</head>
<body>
${body}
</body>
</html>
`;
}
