// What every page does beyond reading: the theme, questions before deleting, failures of refreshes, times, the log.
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

// Times in the reader's own zone; what the server wrote is UTC, and stays in the title.
function tellTimes() {
  for (const time of document.querySelectorAll("time[datetime][title]:not([data-told])")) {
    const moment = new Date(time.dateTime);
    time.dataset.told = "";
    if (time.hasAttribute("data-clock")) time.textContent = moment.toLocaleTimeString([], { hourCycle: "h23" });
    time.title = `${moment.toLocaleString([], { dateStyle: "medium", timeStyle: "medium" })} here, ${time.title}`;
  }
}

// What is wrong with a form has the focus when it comes back.
document.addEventListener("DOMContentLoaded", () => document.querySelector("main [aria-invalid=true]")?.focus());

// Runs are compared once some are ticked.
function offerComparison() {
  const button = document.querySelector("button[form=compare]");
  if (button) button.disabled = !document.querySelector("#compare [name=ids]:checked");
}
document.addEventListener("change", (event) => { if (event.target.name === "ids") offerComparison(); });

// A table that is wider than its place can be moved by keys, even where nothing in it takes the focus.
function reachWide() {
  for (const place of document.querySelectorAll(".scroll")) {
    const stops = [...place.querySelectorAll("a, button, input, select, summary")];
    const reached = stops.some((stop) => stop.checkVisibility());
    if (place.scrollWidth > place.clientWidth && !reached) place.tabIndex = 0;
    else place.removeAttribute("tabindex");
  }
}
for (const event of ["DOMContentLoaded", "htmx:after:swap"]) {
  document.addEventListener(event, () => { tellTimes(); reachWide(); offerComparison(); });
}
addEventListener("resize", reachWide);

// The log follows its end while somebody wants it to; who scrolled up to read keeps the line that they read, though
// the part of the page around it is drawn anew and old lines leave its beginning.
let follows = true;
let read = null; // the first line in sight, and how far it is scrolled
let settling = false;

function placeLog() {
  const log = document.querySelector(".log");
  if (!log) return;
  const toggle = document.querySelector("[data-follow]");
  if (toggle) toggle.checked = follows;
  settling = true;
  if (follows) log.scrollTop = log.scrollHeight;
  else if (read) {
    const line = log.querySelector(`[data-line="${read.line}"]`);
    log.scrollTop = line ? line.offsetTop - log.offsetTop + read.offset : 0;
  }
  requestAnimationFrame(() => { settling = false; });
}
document.addEventListener("scroll", (event) => {
  const log = event.target;
  if (settling || !log.classList?.contains("log")) return;
  follows = log.scrollHeight - log.scrollTop - log.clientHeight <= 24;
  const top = log.scrollTop + log.offsetTop;
  const line = [...log.children].find((each) => each.offsetTop + each.offsetHeight > top);
  read = line ? { line: line.dataset.line, offset: top - line.offsetTop } : null;
  const toggle = document.querySelector("[data-follow]");
  if (toggle) toggle.checked = follows;
}, true);
document.addEventListener("change", (event) => {
  if (!event.target.matches("[data-follow]")) return;
  follows = event.target.checked;
  if (follows) { placeLog(); return; }
  // Stays where it is, which is its end, until somebody scrolls.
  const log = document.querySelector(".log");
  const line = log?.lastElementChild;
  read = line ? { line: line.dataset.line, offset: log.scrollTop - (line.offsetTop - log.offsetTop) } : null;
});
document.addEventListener("htmx:after:swap", placeLog);
document.addEventListener("DOMContentLoaded", placeLog);
