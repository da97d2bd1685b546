// Sets the theme that was chosen before anything is drawn; without a choice the system decides.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  let theme = null;
  try { theme = localStorage.getItem("theme"); } catch { /* storage is switched off: the system decides */ }
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
})();
