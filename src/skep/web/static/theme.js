// The colour scheme, before anything is painted: a page that was set to dark must not flash in white.
"use strict";
(() => {
  const KEY = "skep.theme";
  const CHOICES = ["auto", "light", "dark"];
  const read = () => {
    try { return localStorage.getItem(KEY) || "auto"; } catch { return "auto"; } // where storage is refused
  };
  const show = (choice) => {
    if (choice === "light" || choice === "dark") document.documentElement.dataset.theme = choice;
    else delete document.documentElement.dataset.theme;
  };
  globalThis.skepTheme = {
    get choice() { return CHOICES.includes(read()) ? read() : "auto"; },
    next() {
      const next = CHOICES[(CHOICES.indexOf(this.choice) + 1) % CHOICES.length];
      try { localStorage.setItem(KEY, next); } catch { /* it lasts as long as the page */ }
      show(next);
      return next;
    },
  };
  show(read());
})();
