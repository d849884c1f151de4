// Elements. What is shown comes from users and containers: it goes in as text, never as markup.

/** Returns a new element; `attrs` are attributes, or listeners where their value is a function (`onclick`). */
export function el(tag, attrs, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attrs ?? {})) {
    if (typeof value === "function") made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, String(value));
  }
  put(made, ...children);
  return made;
}

/** Adds children: nodes, texts, numbers; lists of them; nothing for null and false. */
export function put(parent, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    parent.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return parent;
}

/** Replaces what is in an element. */
export function fill(parent, ...children) {
  parent.replaceChildren();
  return put(parent, ...children);
}

/** Replaces buttons, and leaves the keyboard at the one of the same name, or at the first. */
export function fillButtons(parent, buttons) {
  const focused = parent.contains(document.activeElement) ? document.activeElement.textContent : null;
  fill(parent, buttons);
  if (focused !== null) (buttons.find((each) => each.textContent === focused) ?? buttons[0])?.focus();
}

/** Sets a text only where it is another one: screen readers and layout hear of no change that is none. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Has those who hear the page, not see it, told. For what the user did; never for what the swarm does by itself. */
export function say(text) {
  const place = document.getElementById("say");
  place.textContent = "";
  setTimeout(() => { place.textContent = text; }, 30);
}

const TOAST_S = 8;
const TOASTS_MAX = 4;

/** Shows a message for some seconds, or until it is closed. */
export function toast(text) {
  const place = document.getElementById("toasts");
  const made = el("div", { class: "toast" }, el("p", null, text),
    el("button", { type: "button", class: "quiet", "aria-label": "Close this message", onclick: () => made.remove() }, "✕"));
  place.append(made);
  while (place.children.length > TOASTS_MAX) place.firstChild.remove();
  say(text);
  setTimeout(() => { if (!made.contains(document.activeElement)) made.remove(); }, TOAST_S * 1000);
}
