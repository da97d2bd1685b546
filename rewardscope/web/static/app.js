// What every page does beyond reading: the theme, questions before deleting, failures of refreshes, progress.
"use strict";

const root = document.documentElement;

function toggleTheme() {
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("theme", root.dataset.theme); } catch { /* lasts for this page only */ }
}

function tell(sentence) {
  const toast = document.getElementById("toast");
  toast.textContent = sentence;
  toast.hidden = false;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => { toast.hidden = true; }, 6000);
}

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-toggle-theme]")) toggleTheme();
});

document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !window.confirm(question)) {
    event.preventDefault();
    return;
  }
  const busy = event.submitter?.dataset.busy;
  if (busy) {
    // After the form data are taken, or the button's own value would be missing from them.
    setTimeout(() => { event.submitter.disabled = true; event.submitter.textContent = busy; });
  }
});

// Selects that lead somewhere else submit their form at once; without JavaScript the button beside does.
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
});

// A page that comes back from the browser's memory has its buttons again.
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

document.addEventListener("htmx:response:error", (event) => {
  const status = event.detail.ctx.response.status;
  if (status === 401) location.reload();
  const page = new DOMParser().parseFromString(event.detail.ctx.text || "", "text/html");
  const detail = page.querySelector("[data-detail]");
  if (detail) tell(detail.textContent);
  else if (status !== 401) tell(`The server answered ${status}; reload the page to see what it says.`);
});
document.addEventListener("htmx:error", () => tell("The server cannot be reached; the page shows what was true before."));

// What somebody unfolded stays unfolded when the part of the page around it is drawn anew.
const unfolded = new Set();
document.addEventListener("toggle", (event) => {
  if (event.target.id && event.target.isConnected) unfolded[event.target.open ? "add" : "delete"](event.target.id);
}, true);
document.addEventListener("htmx:after:swap", () => {
  for (const id of unfolded) {
    const part = document.getElementById(id);
    if (part) part.open = true;
  }
});

// The log follows its end, unless somebody scrolled up to read.
function followLog() {
  const log = document.querySelector(".log");
  if (log && log.dataset.read !== "true") log.scrollTop = log.scrollHeight;
}
document.addEventListener("scroll", (event) => {
  if (event.target.classList?.contains("log")) {
    const log = event.target;
    log.dataset.read = String(log.scrollHeight - log.scrollTop - log.clientHeight > 24);
  }
}, true);
document.addEventListener("htmx:after:swap", followLog);
document.addEventListener("DOMContentLoaded", followLog);
