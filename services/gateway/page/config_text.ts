/** A configuration in YAML, empty fields left out. */
export function configText(value: unknown, indent = ""): string {
  if (Array.isArray(value)) {
    return value.map((item) =>
      typeof item === "object"
        ? `${indent}- ${configText(item, `${indent}  `).trimStart()}`
        : `${indent}- ${scalarText(item)}\n`
    ).join("");
  }
  if (typeof value !== "object" || value === null) return `${indent}${scalarText(value)}\n`;
  return Object.entries(value)
    .filter(([, inner]) => inner !== "" && !(Array.isArray(inner) && inner.length === 0))
    .map(([name, inner]) =>
      typeof inner === "object" && inner !== null
        ? `${indent}${name}:\n${configText(inner, `${indent}  `)}`
        : `${indent}${name}: ${scalarText(inner)}\n`
    ).join("");
}

function scalarText(value: unknown): string {
  if (typeof value !== "string") return String(value);
  const plain = /^[\w./+-]*[A-Za-z/][\w./+-]*$/.test(value) &&
    !/^(?:true|false|null|\d.*)$/i.test(value);
  return plain ? value : JSON.stringify(value);
}
