/** What a diffusers folder says about itself, by the path of each JSON file. */
export type ModelFiles = Readonly<Record<string, Readonly<Record<string, unknown>>>>;
