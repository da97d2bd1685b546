// The pair page: what a token holds, on hover and focus; keys; the slider; the mask view.
// Numbers come once, as arrays, from the address in [data-tokens]; one listener serves all tokens.
"use strict";

const page = document.getElementById("pair");
const inspector = document.getElementById("inspector");
const spoken = document.getElementById("spoken");
const resting = inspector.innerHTML;
const LANES = [
  ["rewards", "reward"], ["scaled", "scaled"], ["logprobs", "log p"], ["reference_logprobs", "log p reference"],
  ["entropies", "entropy"], ["ranks", "rank"],
];
let lanes = null;        // {chosen: {rewards: [...], ...}, rejected: ...}, fetched when first needed
let asked = null;
let view = null;         // segments and scale of what is shown now
let positions = new WeakMap();
let current = null;

function readView() {
  const data = document.getElementById("view-data");
  view = data ? JSON.parse(data.textContent) : null;
  positions = new WeakMap();
  current = null;
  inspector.innerHTML = resting;
  const wanted = document.getElementById("view")?.dataset.tokens;
  if (wanted !== asked) { lanes = null; asked = null; }
}

// One fetch a source; hovering on before it has come shows the position alone.
async function fetchLanes() {
  const wanted = document.getElementById("view")?.dataset.tokens;
  if (!wanted || asked === wanted) return;
  asked = wanted;
  const answer = await fetch(wanted, { headers: { Accept: "application/json" } });
  if (answer.ok && asked === wanted) {
    lanes = await answer.json();
    if (current) show(current);
  }
}

function positionOf(token) {
  if (!positions.has(token)) {
    let position = 0;
    for (const each of token.closest(".response").querySelectorAll("i")) {
      positions.set(each, position);
      position += Number(each.dataset.n || 1);
    }
  }
  return positions.get(token);
}

function number(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  const text = Number.isInteger(value) ? String(Math.abs(value)) : String(Number(Math.abs(value).toPrecision(digits)));
  return (value < 0 ? "−" : "") + text;
}

function segmentAt(side, position) {
  const segments = view.sides[side].segments;
  let low = 0, high = segments.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (segments[middle][0] <= position) low = middle; else high = middle - 1;
  }
  return [low, segments[low]];
}

function fact(name, value) {
  const span = document.createElement("span");
  const bold = document.createElement("b");
  bold.textContent = value;
  span.append(`${name} `, bold);
  return span;
}

function show(token) {
  const response = token.closest(".response");
  const side = response?.dataset.side;
  if (!view?.sides[side]) return;
  current = token;
  const position = positionOf(token);
  const count = Number(token.dataset.n || 1);
  const text = document.createElement("span");
  text.className = "token";
  text.textContent = token.textContent.replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll(" ", "·") || "(no text)";
  const facts = [text, fact(`${side}, token`, count > 1 ? `${position}–${position + count - 1}` : position)];
  const held = lanes?.[side];
  if (held) {
    const { baseline, scale } = view.sides[side];
    for (const [lane, name] of LANES) {
      const values = held[lane === "scaled" ? "rewards" : lane];
      if (!values) continue;
      const shown = values.slice(position, position + count).map((value) =>
        number(lane === "scaled" && value !== null ? (value - baseline) / scale : value));
      facts.push(fact(name, shown.join(" | ")));
    }
  }
  const [index, [, reward, state]] = segmentAt(side, position);
  const ring = token.querySelector("em");
  if (ring) facts.push(fact("pivot", ring.dataset.p ? `rank ${ring.dataset.p}` : "✓"));
  facts.push(fact(`segment ${index + 1}, reward`, `${number(reward, 3)} ${state & 1 ? "kept ✓" : "masked ✕"}${state & 2 ? " ≠" : ""}`));
  const label = token.closest(".l")?.title;
  if (label) facts.push(fact("label", label));
  inspector.replaceChildren(...facts);
}

function rest() {
  const focused = document.activeElement?.closest?.(".response i");
  if (focused) { show(focused); return; }
  current = null;
  inspector.innerHTML = resting;
}

page.addEventListener("pointerover", (event) => {
  const token = event.target.closest(".response i");
  if (token) { fetchLanes(); show(token); }
});
page.addEventListener("pointerout", (event) => {
  if (event.target.closest(".response i") && !event.relatedTarget?.closest?.(".response i")) rest();
});
page.addEventListener("click", (event) => {
  const token = event.target.closest(".response i");
  if (token && !String(getSelection())) focus(token);
});
page.addEventListener("focusin", (event) => {
  const token = event.target.closest(".response i");
  if (token) { fetchLanes(); show(token); spoken.textContent = inspector.textContent; }
});
page.addEventListener("focusout", () => setTimeout(rest));

function focus(token) {
  token.tabIndex = -1;
  token.focus({ preventScroll: true });
  token.scrollIntoView({ block: "center" });
}

function step(selector, by) {
  const all = [...page.querySelectorAll(selector)];
  if (!all.length) return;
  const focused = document.activeElement?.closest?.(".response i");
  let next;
  if (!focused) next = by > 0 ? all[0] : all.at(-1);
  else if (all.includes(focused)) next = all[all.indexOf(focused) + by];
  else {
    const after = all.findIndex((each) => focused.compareDocumentPosition(each) & Node.DOCUMENT_POSITION_FOLLOWING);
    next = by > 0 ? all[after] : all[(after < 0 ? all.length : after) - 1];
  }
  if (next) focus(next);
}

function toggleMask() {
  const box = page.querySelector("[name=view]");
  if (!box) return;
  box.checked = !box.checked;
  showMask(box.checked);
}

function showMask(on) {
  document.getElementById("view").classList.toggle("mask-view", on);
  const address = new URL(location.href);
  if (on) address.searchParams.set("view", "mask"); else address.searchParams.delete("view");
  history.replaceState(history.state, "", address);
  carryAddress();
}

// The next and the previous pair open under the rule and the look that this one has now.
function carryAddress() {
  for (const link of page.querySelectorAll("a[rel=next][href], a[rel=prev][href]")) link.search = location.search;
}

const KEYS = {
  j: () => page.querySelector("a[rel=next]")?.click(),
  k: () => page.querySelector("a[rel=prev]")?.click(),
  l: () => step(".response i.p", 1),
  h: () => step(".response i.p", -1),
  ArrowRight: () => document.activeElement.closest(".response i") && step(".response i", 1),
  ArrowLeft: () => document.activeElement.closest(".response i") && step(".response i", -1),
  m: toggleMask,
  "?": () => document.getElementById("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input:not([type=range]):not([type=checkbox]), select, textarea, dialog")) return;
  if (event.target.matches("[type=range]") && event.key.startsWith("Arrow")) return;
  const does = KEYS[event.key];
  if (does) { event.preventDefault(); does(); }
});

// The slider and the number beside it are one value; the number is what the form sends.
page.addEventListener("input", (event) => {
  const partner = event.target.dataset.partner && document.getElementById(event.target.dataset.partner);
  if (!partner) return;
  partner.value = event.target.value;
  if (event.target.type === "range") partner.dispatchEvent(new Event("input", { bubbles: true }));
});
page.addEventListener("change", (event) => {
  if (event.target.name === "view") { event.stopPropagation(); showMask(event.target.checked); }
}, true);
document.getElementById("open-help")?.addEventListener("click", KEYS["?"]);

document.addEventListener("htmx:after:swap", readView);
document.addEventListener("htmx:after:history:replace", carryAddress);
readView();
// Numbers are small; having them before the first hover makes it answer at once.
(window.requestIdleCallback || setTimeout)(() => fetchLanes());
