// Labels on the pair page: r, w and u speak of the segment of the token with the focus, Ctrl+Z takes back.
// Stands on pair.js, which knows the tokens. Without it the forms of the page do the same.
"use strict";

const VERDICT_KEYS = { r: "right", w: "wrong", u: "unsure" };
const aboveInspector = new CSSStyleSheet();
document.adoptedStyleSheets.push(aboveInspector);
let spoken = null; // side and position of the token that was focused last
let pressed = null; // which button had the focus when the panel was drawn anew

function labelsData() {
  const script = document.getElementById("labels-data");
  return script ? JSON.parse(script.textContent) : {};
}

// The marks in the text follow the panel, which is drawn anew alone.
function markLabels() {
  const data = labelsData();
  for (const response of page.querySelectorAll(".response[data-side]")) {
    for (const token of response.querySelectorAll("i[data-v]")) {
      token.removeAttribute("data-v");
      token.removeAttribute("data-b");
    }
    const { tokens, starts, count } = indexOf(response);
    if (!count) continue;
    for (const [first, end, verdict] of data[response.dataset.side]?.said ?? []) {
      const begin = lastAtMost(starts, first);
      for (let index = begin; index < tokens.length && starts[index] < end; index++) {
        tokens[index].dataset.v = verdict;
        if (index === begin) tokens[index].dataset.b = "";
      }
    }
  }
}

function segmentOf({ side, position }) {
  const segments = labelsData()[side]?.segments ?? [];
  if (!segments.length) return null;
  const index = lastAtMost(segments.map(([start]) => start), position);
  const [, start, end, verdict] = segments[index];
  return start < end ? { side, number: index + 1, start, end, verdict } : null;
}

function offerLabels() {
  const bar = document.getElementById("say");
  if (!bar) return;
  const segment = spoken && segmentOf(spoken);
  bar.hidden = !segment;
  if (!segment) return;
  document.getElementById("say-what").textContent = `${segment.side}, segment ${segment.number}`;
  // Not on the element itself: htmx would carry its style over to the new one, which the page's policy refuses.
  aboveInspector.replaceSync(`.say { bottom: ${inspector.offsetHeight + 8}px; }`);
  for (const button of bar.querySelectorAll("button")) {
    const isSaid = button.dataset.verdict === segment.verdict;
    button.setAttribute("aria-pressed", isSaid);
    button.value = `${segment.side}:${segment.start}:${segment.end}:${isSaid ? "clear" : button.dataset.verdict}`;
  }
}

page.addEventListener("focusin", (event) => {
  const token = event.target.closest(".response i");
  if (!token) return;
  spoken = { side: token.closest(".response").dataset.side, position: positionOf(token) };
  offerLabels();
});

document.addEventListener("keydown", (event) => {
  const field = event.target.closest("input, select, textarea, dialog, [contenteditable]");
  if (field && !field.matches("[type=range], [type=checkbox], [type=radio]")) return;
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
    const button = document.querySelector(event.shiftKey ? "#redo-label button" : "#undo-label button");
    if (!button) return;
    event.preventDefault();
    if (!button.disabled) button.form.requestSubmit(button);
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && spoken) { spoken = null; offerLabels(); return; }
  const verdict = VERDICT_KEYS[event.key];
  if (!verdict || !keysOn.checked) return;
  const button = document.querySelector(`#say:not([hidden]) [data-verdict=${verdict}]`);
  if (!button) { document.getElementById("said").textContent = "Give a token the focus first."; return; }
  event.preventDefault();
  button.form.requestSubmit(button);
});

document.addEventListener("htmx:before:swap", () => {
  pressed = document.activeElement?.closest?.("#labels button")?.dataset.say ?? null;
});
document.addEventListener("htmx:after:swap", () => {
  markLabels();
  offerLabels();
  if (current) show(current);
  if (pressed) document.querySelector(`#labels [data-say="${CSS.escape(pressed)}"]`)?.focus({ preventScroll: true });
  pressed = null;
});
offerLabels();
