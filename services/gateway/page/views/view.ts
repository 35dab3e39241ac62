import type { Child } from "../dom.ts";
import type { OverviewStore } from "../overview_store.ts";

/** What a view is given. */
export interface ViewContext {
  readonly overview: OverviewStore;
  /** Parts of the address after the view's name. */
  readonly params: readonly string[];
  /** Aborts when the view is left. */
  readonly signal: AbortSignal;
}

/** A view: its name in the window's title, and what it shows. */
export interface View {
  readonly title: string;
  readonly content: readonly Child[];
}
