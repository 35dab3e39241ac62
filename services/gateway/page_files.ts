import { stripTypeScriptTypes } from "node:module";

/** A file of the page, as it is sent. */
export interface PageFile {
  readonly body: string;
  readonly type: string;
}

const TYPES: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  css: "text/css; charset=utf-8",
  svg: "image/svg+xml",
  ts: "text/javascript; charset=utf-8",
};

/**
 * Reads the page by path, "" for the document itself. Its modules are TypeScript with types that can be blanked out, so
 * browsers get the same lines and columns, and there is no build.
 */
export async function readPage(
  folder = new URL("page/", import.meta.url),
): Promise<ReadonlyMap<string, PageFile>> {
  const files = new Map<string, PageFile>();
  const visit = async (prefix: string) => {
    for await (const { name, isDirectory } of Deno.readDir(new URL(prefix, folder))) {
      if (isDirectory) await visit(`${prefix}${name}/`);
      const type = TYPES[name.slice(name.lastIndexOf(".") + 1)];
      if (isDirectory || type === undefined || name.endsWith("_test.ts")) continue;
      const text = await Deno.readTextFile(new URL(prefix + name, folder));
      files.set(`page/${prefix}${name}`, {
        type,
        body: name.endsWith(".ts") ? stripTypeScriptTypes(text) : text,
      });
    }
  };
  await visit("");
  const index = files.get("page/index.html");
  if (index) files.set("", index);
  return files;
}
