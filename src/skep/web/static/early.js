// Before anything is painted: the colour scheme (a page that was set to dark must not flash in white), and the
// question for the board, whose answer takes as long as the modules take to load.
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
  globalThis.skepBoard = fetch("/board", { credentials: "same-origin" }).catch(() => null); // it is asked again
})();
