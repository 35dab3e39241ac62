import { ApiError, request, setToken } from "../api.ts";
import { faultText } from "../dialog.ts";
import { button, field, h, replace } from "../dom.ts";

/** Asks for the token, which the tab then remembers. */
export function loginView(onDone: () => void): HTMLElement {
  const token = h("input", { type: "password", autocomplete: "current-password", required: true });
  const fault = h("p", { class: "fault", role: "alert" });
  const enter = async () => {
    setToken(token.value.trim());
    replace(fault);
    try {
      // It asks for the token and for nothing else.
      await request("/v1/presets");
      onDone();
    } catch (error) {
      const wrong = error instanceof ApiError && error.status === 401;
      replace(fault, wrong ? "This is not the token." : faultText(error));
      token.select();
    }
  };
  return h(
    "form",
    {
      class: "login",
      onsubmit: (event) => {
        event.preventDefault();
        void enter();
      },
    },
    h("h1", {}, "DRTune"),
    h("p", {}, "This gateway asks for a token. The tab remembers it until it is closed."),
    field("Token", token),
    fault,
    button("Enter", enter, { class: "primary" }),
  );
}
