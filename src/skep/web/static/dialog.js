// Questions before anything is ordered. What goes wrong is shown where it was asked, whole.

import { el, fill } from "./dom.js";

/** Asks; `act` gets the form's number, if there is one, and its error stays in the dialog.
 * `says(value)` are the sentences of what will happen; `number`: {label, value, min, max}. */
export function ask({ title, says, verb, number, act }) {
  const before = document.activeElement;
  const input = number && el("input", { type: "number", min: number.min, max: number.max, value: number.value, required: true, inputmode: "numeric" });
  const what = el("ul", { class: "what" });
  const failed = el("p", { class: "error", role: "alert" });
  failed.hidden = true;
  const yes = el("button", { type: "submit", class: "main" }, verb);
  const no = el("button", { type: "button", onclick: () => box.close() }, "Cancel");
  const value = () => (input ? Number(input.value) : undefined);
  const tell = () => {
    const isValid = !input || input.checkValidity();
    fill(what, isValid ? says(value()).map((sentence) => el("li", null, sentence)) : el("li", null, `a whole number from ${number.min} to ${number.max}`));
    yes.disabled = !isValid || (input && value() === number.value);
  };
  const box = el("dialog", { "aria-labelledby": "asked" }, el("form", {
    method: "dialog",
    onsubmit: async (event) => {
      event.preventDefault();
      yes.disabled = true;
      failed.hidden = true;
      try {
        await act(value());
        box.close();
      } catch (error) {
        failed.textContent = error.message;
        failed.hidden = false;
        yes.disabled = false;
      }
    },
  }, el("h2", { id: "asked" }, title), input && el("label", null, number.label, input), what, failed, el("div", { class: "buttons" }, no, yes)));
  input?.addEventListener("input", tell);
  show(box, before);
  tell();
  (input ?? yes).focus();
  input?.select();
}

/** Shows a dialog, and gives the focus back when it is closed. */
export function show(box, before = document.activeElement) {
  box.addEventListener("close", () => {
    // It is told a moment after it closed: a key may have taken the focus elsewhere.
    const isElsewhere = document.activeElement !== document.body && !box.contains(document.activeElement);
    box.remove();
    if (before?.isConnected && !isElsewhere) before.focus();
  });
  document.body.append(box);
  box.showModal();
}
