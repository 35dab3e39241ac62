/**
 * Rows of a CSV text (RFC 4180: quoted cells may hold commas, quotes doubled and line breaks). Lines end as on Windows, Unix
 * or in Excel for Mac. Empty lines are dropped.
 */
export function parseCsv(text: string, delimiter = ","): readonly (readonly string[])[] {
  const rows: string[][] = [];
  let row: string[] = [];
  let cell = "";
  let quoted = false;
  const end = () => {
    row.push(cell);
    cell = "";
    if (row.length > 1 || row[0] !== "") rows.push(row);
    row = [];
  };
  for (let i = 0; i < text.length; i++) {
    const ch = text.charAt(i);
    if (quoted) {
      if (ch !== '"') cell += ch;
      else if (text.charAt(i + 1) === '"') cell += text.charAt(++i);
      else quoted = false;
    } else if (ch === '"' && cell === "") quoted = true;
    else if (ch === delimiter) {
      row.push(cell);
      cell = "";
    } else if (ch === "\n" || ch === "\r") end();
    else cell += ch;
  }
  if (cell !== "" || row.length > 0) end();
  return rows;
}

/** What stands between the cells of a list's first line: Excel writes semicolons or tabs in many countries. */
export function delimiterOf(text: string): string {
  const header = text.slice(0, text.search(/[\r\n]|$/));
  return [",", ";", "\t"].find((delimiter) => header.includes(delimiter)) ?? ",";
}

/** One CSV line of cells, quoted where they need it. */
export function csvLine(cells: readonly (string | number)[]): string {
  return cells.map((c) => {
    const text = String(c);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }).join(",");
}
