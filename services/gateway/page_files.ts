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

/** What the page is made of, by its paths: a module that leaves "page/" upwards comes to the root of the server. */
const FOLDERS: ReadonlyMap<string, URL> = new Map([
  ["page/", new URL("page/", import.meta.url)],
  ["base/statistics/", new URL("../../base/statistics/", import.meta.url)],
]);

/**
 * Reads the page by path, "" for the document itself. Its modules are TypeScript with types that can be blanked out, so
 * browsers get the same lines and columns, and there is no build.
 */
export async function readPage(): Promise<ReadonlyMap<string, PageFile>> {
  const files = new Map<string, PageFile>();
  const visit = async (path: string, folder: URL) => {
    for await (const { name, isDirectory } of Deno.readDir(folder)) {
      if (isDirectory) await visit(`${path}${name}/`, new URL(`${name}/`, folder));
      const type = TYPES[name.slice(name.lastIndexOf(".") + 1)];
      if (isDirectory || type === undefined || name.endsWith("_test.ts")) continue;
      const text = await Deno.readTextFile(new URL(name, folder));
      files.set(path + name, {
        type,
        body: name.endsWith(".ts") ? stripTypeScriptTypes(text) : text,
      });
    }
  };
  for (const [path, folder] of FOLDERS) await visit(path, folder);
  const index = files.get("page/index.html");
  if (index) files.set("", index);
  return files;
}
