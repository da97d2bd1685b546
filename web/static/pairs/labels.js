// Labels on the pair page: r, w and u speak of the text that is selected, else of the segment of the token with
// the focus; Ctrl+Z takes back.
// Stands on pair.js, which knows the tokens. Without it the forms of the page do the same.
"use strict";

const VERDICT_KEYS = { r: "right", w: "wrong", u: "unsure" };
let spoken = null; // side and position of the token that was focused last
let chosen = null; // the stretch of text that is selected
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
    for (const [first, end, verdict] of data[response.dataset.side] ?? []) {
      const begin = lastAtMost(starts, first);
      for (let index = begin; index < tokens.length && starts[index] < end; index++) {
        tokens[index].dataset.v = verdict;
        if (index === begin) tokens[index].dataset.b = "";
      }
    }
  }
}

// The segment of a token, in the view that the token stands in.
function segmentOf({ side, position, panel }) {
  const around = panel?.isConnected ? panel : shownPart();
  const response = around.querySelector(`.response[data-side="${side}"]`);
  const segments = response && dataOf(panelOf(response))?.sides[side]?.segments;
  if (!segments?.length || !indexOf(response).count) return null;
  const index = lastAtMost(segments.map(([start]) => start), position);
  const { tokens, places, count } = indexOf(response);
  const first = places.get(tokenAt(response, segments[index][0]));
  const after = index + 1 < segments.length ? places.get(tokenAt(response, segments[index + 1][0])) : tokens.length;
  if (segments[index][0] >= count) return null;
  const stretch = stretchOf(response, first, Math.max(after, first + 1));
  return stretch && { ...stretch, number: index + 1 };
}

// Pieces [first, after) of a response as characters, and what was said of all of them; the end has no character.
function stretchOf(response, first, after) {
  const { tokens } = indexOf(response);
  const starts = charactersBefore(response);
  const held = tokens.slice(first, after).filter((piece) => !piece.matches(".e"));
  if (!held.length || starts[first] === starts[first + held.length]) return null;
  const verdicts = new Set(held.map((piece) => piece.dataset.v ?? ""));
  return {
    side: response.dataset.side,
    start: starts[first],
    end: starts[first + held.length],
    verdict: verdicts.size === 1 ? [...verdicts][0] : "",
    text: held.map((piece) => piece.textContent).join(""),
  };
}

const counted = new WeakMap(); // response -> how many characters stand before each piece, and altogether
function charactersBefore(response) {
  if (!counted.has(response)) {
    const starts = [0];
    for (const piece of indexOf(response).tokens) starts.push(starts.at(-1) + (piece.matches(".e") ? 0 : charactersOf(piece)));
    counted.set(response, starts);
  }
  return counted.get(response);
}

// Characters are counted as Python does; what cannot be seen stands in the text by name only.
const charactersOf = (piece) => [...piece.textContent].length + piece.querySelectorAll("u.code").length;

function holds(range, piece) {
  const part = document.createRange();
  part.selectNodeContents(piece);
  if (range.compareBoundaryPoints(Range.START_TO_START, part) > 0) part.setStart(range.startContainer, range.startOffset);
  if (range.compareBoundaryPoints(Range.END_TO_END, part) < 0) part.setEnd(range.endContainer, range.endOffset);
  return part.toString() !== "" || part.cloneContents().querySelector("u.code") !== null;
}

// What is selected of one response, widened to whole tokens: the numbers are of tokens.
function selectedStretch() {
  const selection = getSelection();
  if (selection.isCollapsed || !selection.rangeCount) return null;
  const range = selection.getRangeAt(0);
  const isHeld = (piece) => !piece.matches(".e") && range.intersectsNode(piece) && holds(range, piece);
  // A selection may end beyond its response, where the next thing on the page begins, but not in another one.
  const touched = [...page.querySelectorAll(".response[data-side]")].filter((each) => range.intersectsNode(each) && indexOf(each).tokens.some(isHeld));
  if (touched.length !== 1) return null;
  const [response] = touched;
  const { tokens } = indexOf(response);
  const first = tokens.findIndex(isHeld);
  if (first < 0) return null;
  let after = first + 1;
  while (after < tokens.length && isHeld(tokens[after])) after++;
  return stretchOf(response, first, after);
}

const shortened = (text) => (text.length > 32 ? `${text.slice(0, 20)}…${text.slice(-10)}` : text);

function offerLabels() {
  const bar = document.getElementById("say");
  if (!bar) return;
  const segment = chosen ?? (spoken && segmentOf(spoken));
  bar.hidden = !segment;
  tellBelow();
  if (!segment) return;
  document.getElementById("say-what").textContent = segment.number
    ? `${segment.side}, segment ${segment.number}`
    : `${segment.side}, “${shortened(segment.text.trim())}”`;
  for (const button of bar.querySelectorAll("[data-verdict]")) {
    const isSaid = button.dataset.verdict === segment.verdict;
    button.setAttribute("aria-pressed", isSaid);
    button.value = `${segment.side}:${segment.start}:${segment.end}:${isSaid ? "clear" : button.dataset.verdict}`;
  }
}

const placeOf = (token) => ({ side: token.closest(".response").dataset.side, position: positionOf(token), panel: panelOf(token) });

function closeBar() {
  getSelection().removeAllRanges();
  spoken = chosen = null;
  offerLabels();
}

page.addEventListener("focusin", (event) => {
  const token = event.target.closest(".response i");
  if (!token) return;
  spoken = placeOf(token);
  offerLabels();
});
page.addEventListener("click", (event) => { if (event.target.closest("#say-close")) closeBar(); });

// The bar speaks of what is selected: pressing its buttons must not take the selection away first.
document.addEventListener("mousedown", (event) => { if (event.target.closest("#say")) event.preventDefault(); });
let selecting = null;
document.addEventListener("selectionchange", () => {
  clearTimeout(selecting);
  selecting = setTimeout(() => {
    const found = selectedStretch();
    if (!found && !chosen) return;
    chosen = found;
    offerLabels();
  }, 120);
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
  if (event.key === "Escape" && (spoken || chosen)) {
    if (chosen) getSelection().removeAllRanges(); else spoken = null;
    chosen = null;
    offerLabels();
    return;
  }
  const verdict = VERDICT_KEYS[event.key];
  if (!verdict || !keysOn.checked) return;
  // Without a selection or a focus the pointer says which token is meant.
  if (!chosen && !spoken && current?.isConnected) { spoken = placeOf(current); offerLabels(); }
  const button = document.querySelector(`#say:not([hidden]) [data-verdict=${verdict}]`);
  if (!button) { document.getElementById("said").textContent = "Select some text, or point at a token, first."; return; }
  event.preventDefault();
  button.form.requestSubmit(button);
});

document.addEventListener("htmx:before:swap", () => {
  pressed = document.activeElement?.closest?.("#labels button")?.dataset.say ?? null;
});
document.addEventListener("htmx:after:swap", () => {
  markLabels();
  chosen = selectedStretch();
  offerLabels();
  if (current) show(current);
  if (pressed) document.querySelector(`#labels [data-say="${CSS.escape(pressed)}"]`)?.focus({ preventScroll: true });
  pressed = null;
});
// A link may have given a token the focus before this script listened.
const begun = document.activeElement?.closest?.(".response i");
if (begun) spoken = placeOf(begun);
offerLabels();
