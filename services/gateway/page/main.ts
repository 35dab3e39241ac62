import { TOKEN_WANTED } from "./api.ts";
import { h, replace, say } from "./dom.ts";
import { OverviewStore } from "./overview_store.ts";
import { apiView } from "./views/api_view.ts";
import { compareView } from "./views/compare_view.ts";
import { judgeView } from "./views/judge_view.ts";
import { loginView } from "./views/login_view.ts";
import { newRunView } from "./views/new_run_view.ts";
import { runView } from "./views/run_view.ts";
import { runsView } from "./views/runs_view.ts";
import { servicesView } from "./views/services_view.ts";
import type { View, ViewContext } from "./views/view.ts";

const VIEWS: Readonly<Record<string, (context: ViewContext) => View>> = {
  runs: runsView,
  new: newRunView,
  compare: compareView,
  judge: judgeView,
  services: servicesView,
  api: apiView,
};

const NAVIGATION = [["runs", "Runs"], ["compare", "Compare"], ["services", "Services"], [
  "api",
  "API",
]];

/** Views without a link of their own, and those that they are reached from. */
const UNDER: Readonly<Record<string, string>> = { "": "runs", new: "runs", judge: "compare" };

const main = h("main", { id: "main", tabindex: -1 });
const banner = h("p", { class: "banner", role: "status", hidden: true });
const links = new Map(
  NAVIGATION.map(([view = "", label = ""]) => [view, h("a", { href: `#/${view}` }, label)]),
);
const navigation = h("nav", { "aria-label": "Views" }, ...links.values());
let overview = new OverviewStore();
let following = new AbortController();
let leaving = new AbortController();

/** Shows the view that the address names. */
function show(): void {
  const [name = "", ...params] = location.hash.replace(/^#\/?/, "").split("/").map(decode);
  leaving.abort();
  leaving = new AbortController();
  const context = { overview, params, signal: leaving.signal };
  const view = name === "runs" && params.length > 0 ? runView : VIEWS[name] ?? runsView;
  const { title, content } = view(context);
  document.title = `${title} · DRTune`;
  for (const [target, link] of links) {
    const current = target === (UNDER[name] ?? name);
    if (current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  replace(main, ...content);
  scrollTo(0, 0);
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** Follows the server and shows the page. */
function enter(): void {
  navigation.hidden = false;
  following.abort();
  following = new AbortController();
  overview = new OverviewStore();
  overview.addEventListener("change", () => {
    const lost = overview.connection === "lost";
    const trainer = overview.services?.trainer;
    banner.hidden = !lost && trainer?.ready !== false;
    say(
      banner,
      lost
        ? "The connection to the gateway is lost. Trying again…"
        : `The trainer at ${trainer?.address} does not answer: ${trainer?.reason}`,
    );
  });
  overview.start(following.signal);
  show();
}

/** Asks for the token; once, however many requests were refused. */
function askForToken(): void {
  if (main.querySelector(".login")) return;
  following.abort();
  leaving.abort();
  banner.hidden = navigation.hidden = true;
  replace(main, loginView(enter));
  main.querySelector("input")?.focus();
}

replace(
  document.body,
  h("a", {
    class: "skip",
    href: "#main",
    onclick: (event) => {
      event.preventDefault();
      main.focus();
    },
  }, "Skip to content"),
  h("header", { class: "top" }, h("a", { class: "brand", href: "#/runs" }, "DRTune"), navigation),
  banner,
  main,
);
addEventListener("hashchange", () => {
  if (main.querySelector(".login")) return;
  show();
  // A new view is read from its top; the focus of a link that is gone would be lost.
  main.focus({ preventScroll: true });
});
addEventListener(TOKEN_WANTED, askForToken);
enter();
