// The pair page: what a token holds, on hover and focus; keys; the maps beside the responses; the link.
// Numbers come once a source, as arrays, from the address in [data-tokens]; one listener serves all tokens.
"use strict";

const page = document.getElementById("pair");
const inspector = document.getElementById("inspector");
const resting = inspector.innerHTML;
const form = document.getElementById("controls");
const TRACKS = [
  ["reward", "reward"], ["scaled", "scaled"], ["logprob", "log p"], ["reference", "log p reference"],
  ["ratio", "log-ratio"], ["entropy", "entropy"], ["rank", "rank"],
];
const STORED = {
  reward: "rewards", logprob: "logprobs", reference: "reference_logprobs", entropy: "entropies", rank: "ranks",
};
const fetched = new Map(); // address -> tracks of both sides, or the promise of them
let panels = new WeakMap(); // panel -> segments and scale of what is shown now
let current = null; // the token whose numbers are shown
let led = null; // the token that a map led to
let at = null; // the token with the focus, as the address says it: `chosen-17`
let known = null; // the view whose responses are known

// ------------------------------------------------------------------------------------------ what is shown

const view = () => document.getElementById("view");
const shownPart = () => page.querySelector(".by-source.shown") ?? page; // of all sources, the one that the controls cut
const panelOf = (element) => element.closest("[data-tokens]");

function dataOf(panel) {
  if (!panel) return null;
  if (!panels.has(panel)) {
    const script = panel.querySelector("script[type='application/json']");
    panels.set(panel, script ? JSON.parse(script.textContent) : null);
  }
  return panels.get(panel);
}

function tokenAt(response, position) {
  const { tokens, starts } = indexOf(response);
  return tokens[lastAtMost(starts, position)];
}

// The numbers of a panel, once they have come; asking again is free.
function tracksOf(panel) {
  const address = panel?.dataset.tokens;
  if (!address) return null;
  if (!fetched.has(address)) {
    const coming = fetch(address, { headers: { Accept: "application/json" } })
      .then((answer) => (answer.ok ? answer.json() : null))
      .catch(() => null)
      .then((tracks) => {
        if (tracks) fetched.set(address, tracks); else fetched.delete(address);
        if (current && panelOf(current)?.dataset.tokens === address) show(current);
        nameTabStops();
      });
    fetched.set(address, coming);
  }
  const found = fetched.get(address);
  return found instanceof Promise ? null : found;
}

function valueOf(track, held, { baseline, scale }, position) {
  const read = (name) => held[STORED[name]]?.[position];
  if (track === "scaled") {
    const reward = read("reward");
    return typeof reward === "number" ? (reward - baseline) / scale : reward;
  }
  if (track === "ratio") {
    const [policy, reference] = [read("logprob"), read("reference")];
    return typeof policy === "number" && typeof reference === "number" ? policy - reference : undefined;
  }
  return read(track);
}

function show(token) {
  const panel = panelOf(token);
  const side = token.closest(".response")?.dataset.side;
  const cut = dataOf(panel)?.sides[side];
  if (!cut) return;
  if (current && current !== token) current.classList.remove("told");
  current = token;
  token.classList.add("told");
  const position = positionOf(token);
  const count = Number(token.dataset.n || 1);
  const text = document.createElement("span");
  text.className = "token";
  text.textContent = written(token);
  const facts = [text, fact(`${side}, token`, count > 1 ? `${position}–${position + count - 1}` : position)];
  const held = tracksOf(panel)?.[side];
  if (held) {
    for (const [track, name] of TRACKS) {
      const values = Array.from({ length: count }, (_, k) => valueOf(track, held, cut, position + k));
      if (values.every((value) => value === undefined)) continue;
      facts.push(fact(name, values.map((value) => number(value)).join(" | ")));
    }
  }
  const pushes = cut.pushes?.slice(position, position + count);
  if (pushes) facts.push(fact("moved by training", pushes.map((value) => number(value, 3)).join(" | ")));
  const index = lastAtMost(cut.segments.map((segment) => segment[0]), position);
  const [, reward, state] = cut.segments[index] ?? [0, null, 1];
  const endCounts = cut.end && token.matches(".e");
  const ring = token.querySelector("em");
  if (ring) facts.push(fact("pivot", ring.dataset.p ? `rank ${ring.dataset.p}` : "✓"));
  const crossing = held && aboutCandidate(token, dataOf(panel), cut, held, position);
  if (crossing) facts.push(crossing);
  facts.push(fact(`segment ${index + 1}, reward`, `${number(reward, 3)} ${state & 1 ? "kept ✓" : "dropped ✕"}${state & 2 ? " ≠" : ""}`));
  if (endCounts) facts.push(fact("the end", "counts by itself ✓"));
  const label = token.closest(".l")?.title;
  if (label) facts.push(fact("label", label));
  if (token.dataset.v) facts.push(fact("said to be", token.dataset.v));
  if (token.closest(".d")) facts.push(fact("differs", "from the other response"));
  inspector.replaceChildren(...facts);
}

// Why a zero crossing is no pivot: how far it went before the next one, against the band.
function aboutCandidate(token, { delta }, cut, held, position) {
  if (!token.matches(".c, .x")) return null;
  if (delta === undefined) return fact("candidate", "zero crossing; this segmenter does not cut by the signal");
  let end = position, reach = 0;
  const sign = Math.sign(valueOf("scaled", held, cut, position));
  for (; end < held.rewards.length; end++) {
    const value = valueOf("scaled", held, cut, end);
    if (value === null) continue;
    if (Math.sign(value) !== sign) break;
    if (Math.abs(value) > Math.abs(reach)) reach = value;
  }
  if (token.matches(".x")) {
    const went = cut.reaches?.[position] ?? reach;
    const lacks = number(delta - Math.abs(went), 3);
    return fact("candidate refused", `goes to ${number(went, 3)}, lacks ${lacks} to leave ±${number(delta)}`);
  }
  const turn = cut.segments.find(([start]) => start > position && start < end);
  return fact("candidate", turn ? `crosses here, leaves ±${number(delta)} at token ${turn[0]}` : "the signal was on this side already");
}

function rest() {
  const focused = document.activeElement?.closest?.(".response i") ?? led;
  if (focused?.isConnected) { show(focused); return; }
  current?.classList.remove("told");
  current = null;
  inspector.innerHTML = resting;
}

// Text that scrolls under a pointer at rest is not pointed at: keys and maps lead on. Moves end with pointermove.
let pointerAt = "";
const pointOf = (event) => `${event.clientX} ${event.clientY}`;
document.addEventListener("pointermove", (event) => { pointerAt = pointOf(event); });
page.addEventListener("pointerover", (event) => {
  if (pointOf(event) === pointerAt) return;
  const token = event.target.closest(".response i");
  if (token) { led = null; show(token); }
});
page.addEventListener("pointerout", (event) => {
  if (pointOf(event) !== pointerAt && event.target.closest(".response i") && !event.relatedTarget?.closest?.(".response i")) rest();
});
page.addEventListener("click", (event) => {
  const token = event.target.closest(".response i");
  if (token && !String(getSelection())) focus(token, false);
});
page.addEventListener("focusin", (event) => {
  const token = event.target.closest(".response i");
  if (!token) return;
  led = null;
  show(token);
  makeTabStop(token);
  document.getElementById("spoken").textContent = [...inspector.children].slice(1).map((each) => each.textContent).join(", ");
  remember(token);
});
page.addEventListener("focusout", () => setTimeout(rest));

// --------------------------------------------------------------------------------- one token at a time, by keys

// One token of each response is a stop of the tab key; arrows move on from it. Its name says text and reward.
function makeTabStop(token) {
  const response = token.closest(".response");
  for (const other of response.querySelectorAll("[tabindex='0']")) other.tabIndex = -1;
  token.tabIndex = 0;
  nameToken(token);
}

function nameToken(token) {
  const panel = panelOf(token);
  const side = token.closest(".response").dataset.side;
  const cut = dataOf(panel)?.sides[side];
  if (!cut) return;
  const position = positionOf(token);
  const held = tracksOf(panel)?.[side];
  const value = held ? valueOf("reward", held, cut, position) : undefined;
  const said = value === undefined ? "" : value === null ? ", no reward" : `, reward ${number(value, 3)}`;
  const [, , state] = cut.segments[lastAtMost(cut.segments.map((segment) => segment[0]), position)] ?? [0, null, 1];
  token.setAttribute("role", "img");
  token.setAttribute("aria-roledescription", "token");
  token.setAttribute("aria-label", `${token.textContent.trim() || "space"}${said}, ${state & 1 || (cut.end && token.matches(".e")) ? "kept" : "dropped"}`);
  token.setAttribute("aria-describedby", "spoken");
}

function nameTabStops() {
  for (const token of page.querySelectorAll(".response [tabindex='0']")) nameToken(token);
}

function focus(token, scrolls = true) {
  token.tabIndex = -1;
  token.focus({ preventScroll: true });
  if (scrolls) bringIntoSight(token);
}

// Blocks off screen have guessed heights, and are laid out a frame after they have come near: we aim again until
// the token stays where it is.
let aimed = null;
function bringIntoSight(token, scroll = () => token.scrollIntoView({ block: "center" })) {
  aimed = token;
  let frames = 12, still = 0, expected = null;
  const aim = () => {
    if (aimed !== token || !token.isConnected) return;
    const { top } = token.getBoundingClientRect();
    still = expected !== null && Math.abs(top - expected) < 2 ? still + 1 : 0;
    if (!still) {
      scroll();
      expected = token.getBoundingClientRect().top;
    }
    if (still < 3 && frames--) requestAnimationFrame(aim);
  };
  aim();
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

function stepInside(by) {
  const token = document.activeElement?.closest?.(".response i");
  if (!token) return false;
  const { tokens, places } = indexOf(token.closest(".response"));
  const next = Number.isFinite(by) ? tokens[places.get(token) + by] : tokens.at(by < 0 ? 0 : -1);
  if (next) focus(next);
  return true;
}

// --------------------------------------------------------------------------------------------- the address

let writing = null;
function remember(token) {
  at = `${token.closest(".response").dataset.side}-${positionOf(token)}`;
  const field = document.getElementById("at");
  if (field) field.value = at;
  // Browsers refuse an address that changes a hundred times in a few seconds, as a held key would make it.
  clearTimeout(writing);
  writing = setTimeout(() => writeAddress({ at }), 200);
}

function writeAddress(changes) {
  const address = new URL(location.href);
  for (const [key, value] of Object.entries(changes)) {
    if (value) address.searchParams.set(key, value); else address.searchParams.delete(key);
  }
  // Browsers refuse an address that is written over and over.
  if (address.href !== location.href) history.replaceState(history.state, "", address);
  carryAddress();
}

// The next and the previous pair open under the rule and the look that this one has now, but at no token.
function carryAddress() {
  const carried = new URLSearchParams(location.search);
  carried.delete("at");
  for (const link of page.querySelectorAll("a[rel=next][href], a[rel=prev][href]")) link.search = carried;
  const copy = document.getElementById("copy-link");
  if (copy) copy.href = permalink();
}

function permalink() {
  const link = new URL(view().dataset.link, location.href);
  const isMasked = view().classList.contains("mask-view");
  for (const [key, value] of [["at", at], ["view", isMasked && "mask"]]) {
    if (value) link.searchParams.set(key, value); else link.searchParams.delete(key);
  }
  return link.href;
}

async function copyLink() {
  const button = document.getElementById("copy-link");
  if (!button) return;
  const text = permalink();
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without a secure connection there is no clipboard for pages; an old way is left.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = "Copied ✓";
  document.getElementById("said").textContent = "The link is copied.";
  setTimeout(() => { button.textContent = "Copy link"; document.getElementById("said").textContent = ""; }, 2000);
}

document.getElementById("copy-link")?.addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  copyLink();
});

function focusOfAddress() {
  const [side, position] = (new URLSearchParams(location.search).get("at") ?? "").split("-");
  const response = side && shownPart().querySelector(`.response[data-side="${CSS.escape(side)}"]`);
  if (response && position && indexOf(response).count) focus(tokenAt(response, Number(position)));
}

// --------------------------------------------------------------------------------- the maps beside responses

const mapped = (map) => map.closest(".side")?.querySelector(".response[data-side]")
  ?? page.querySelector(`.response[data-side="${map.closest("[data-side]").dataset.side}"]`);

// A map beside the text or a strip holds its picture; the bars above a response are one.
const pictureOf = (map) => (map.matches("svg") ? map : map.querySelector("svg"));

function positionUnder(map, event) {
  const svg = pictureOf(map);
  const box = svg.getBoundingClientRect();
  const share = map.matches(".strip, .curve")
    ? (event.clientX - box.left) / box.width
    : (event.clientY - box.top) / box.height;
  const tokens = Number(svg.dataset.count);
  return Math.max(0, Math.min(tokens - 1, Math.floor(share * tokens)));
}

function setUpMaps() {
  for (const map of page.querySelectorAll(".minimap")) {
    const response = mapped(map);
    if (!response || !map.querySelector("svg")) continue;
    map.tabIndex = 0;
    const tokens = Number(map.querySelector("svg").dataset.count);
    const attributes = {
      role: "slider", "aria-label": `Map of the ${map.dataset.side} response`, "aria-orientation": "vertical",
      "aria-valuemin": 0, "aria-valuemax": tokens - 1, "aria-valuenow": 0, "aria-valuetext": `token 0 of ${tokens}`,
    };
    for (const [key, value] of Object.entries(attributes)) map.setAttribute(key, value);
  }
  drawSeen();
}

function goTo(map, position) {
  const response = mapped(map);
  if (!response) return;
  const token = tokenAt(response, position);
  led = token;
  bringIntoSight(token);
  if (map.matches(".minimap")) {
    map.setAttribute("aria-valuenow", position);
    map.setAttribute("aria-valuetext", `token ${position} of ${map.querySelector("svg").dataset.count}: ${token.textContent.trim()}`);
  }
  show(token);
}

page.addEventListener("pointerdown", (event) => {
  const map = event.target.closest(".minimap, .strip, .curve");
  if (!map || !pictureOf(map) || event.button) return;
  map.setPointerCapture(event.pointerId);
  goTo(map, positionUnder(map, event));
});
page.addEventListener("pointermove", (event) => {
  const map = event.target.closest?.(".minimap, .strip, .curve");
  if (map?.hasPointerCapture(event.pointerId)) goTo(map, positionUnder(map, event));
});

function moveMap(map, key) {
  const tokens = Number(map.querySelector("svg").dataset.count);
  const stride = Math.max(1, Math.round(tokens / 160));
  const now = Number(map.getAttribute("aria-valuenow"));
  const next = {
    ArrowDown: now + stride, ArrowRight: now + stride, ArrowUp: now - stride, ArrowLeft: now - stride,
    PageDown: now + 10 * stride, PageUp: now - 10 * stride, Home: 0, End: tokens - 1,
  }[key];
  if (next === undefined) return false;
  goTo(map, Math.max(0, Math.min(tokens - 1, next)));
  return true;
}

// The part of each response that is on the screen, as a frame on its map.
function drawSeen() {
  for (const map of page.querySelectorAll(".minimap")) {
    const response = mapped(map);
    const svg = map.querySelector("svg");
    if (!response || !svg || !indexOf(response).blocks.length) continue;
    const { blocks, begins, count } = indexOf(response);
    const atHeight = (height) => {
      let low = 0, high = blocks.length - 1;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (blocks[middle].getBoundingClientRect().bottom > height) high = middle; else low = middle + 1;
      }
      const box = blocks[low].getBoundingClientRect();
      const share = Math.max(0, Math.min(1, (height - box.top) / (box.height || 1)));
      return begins[low] + share * ((begins[low + 1] ?? count) - begins[low]);
    };
    const bins = svg.viewBox.baseVal.height / count;
    const [top, bottom] = [atHeight(0) * bins, atHeight(innerHeight - inspector.offsetHeight) * bins];
    let frame = svg.querySelector(".seen");
    if (!frame) {
      frame = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      frame.setAttribute("class", "seen");
      frame.setAttribute("width", "100%");
      svg.append(frame);
    }
    // All of it in sight: a frame would only dim the map.
    frame.toggleAttribute("hidden", top <= 0 && bottom >= bins * count - 0.01);
    frame.setAttribute("y", top.toFixed(2));
    frame.setAttribute("height", Math.max(0, bottom - top).toFixed(2));
  }
}

let drawing = false;
function drawSeenSoon() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => { drawing = false; drawSeen(); });
}
addEventListener("scroll", drawSeenSoon, { passive: true });
addEventListener("resize", drawSeenSoon);

// What is fixed at the bottom of the window: other bars stand above it, and the page ends above it.
const below = new CSSStyleSheet();
document.adoptedStyleSheets.push(below);
function tellBelow() {
  const bar = document.querySelector("#say:not([hidden])");
  const height = inspector.offsetHeight;
  below.replaceSync(`:root { --inspector: ${height}px; --below: ${height + (bar ? bar.offsetHeight + 8 : 0)}px; }`);
}
new ResizeObserver(tellBelow).observe(inspector);

// ------------------------------------------------------------------------------------------ the view, drawn anew

// What was read stays where it was: the token at the top of the window, and the one with the focus.
let held = null;
function holdPlace() {
  held = { hadFocus: Boolean(document.activeElement?.closest?.(".response i")) };
  if (!view() || view().getBoundingClientRect().top > 0) return;
  const block = [...page.querySelectorAll(".response .t")].find((each) => each.getBoundingClientRect().bottom > 90);
  const token = block && [...block.querySelectorAll("i")].find((each) => each.getBoundingClientRect().bottom > 90);
  if (token) Object.assign(held, { side: token.closest(".response").dataset.side, position: positionOf(token), top: token.getBoundingClientRect().top });
}

function takeUpPlace() {
  if (!held) return;
  const { hadFocus, side, position, top } = held;
  held = null;
  const response = side && page.querySelector(`.response[data-side="${side}"]`);
  if (response && indexOf(response).count) {
    const token = tokenAt(response, position);
    bringIntoSight(token, () => scrollBy(0, token.getBoundingClientRect().top - top));
  }
  if (hadFocus && at) {
    const [where, place] = at.split("-");
    const found = shownPart().querySelector(`.response[data-side="${where}"]`);
    if (found && indexOf(found).count) focus(tokenAt(found, Number(place)), false);
  }
}

function readView() {
  known = view();
  panels = new WeakMap();
  indexes = new WeakMap();
  current = null;
  inspector.innerHTML = resting;
  for (const response of page.querySelectorAll(".response")) {
    const first = response.querySelector("i");
    if (first && dataOf(panelOf(response))) makeTabStop(first);
  }
  setUpMaps();
  carryAddress();
  const pointedAt = page.querySelector(".response i:hover");
  if (pointedAt) show(pointedAt);
}

// -------------------------------------------------------------------------------------------------- the keys

function press(name, value) {
  const control = form?.querySelector(value ? `[name=${name}][value=${value}]` : `[name=${name}]`);
  if (!control || control.disabled) return;
  control.checked = value ? true : !control.checked;
  control.dispatchEvent(new Event("change", { bubbles: true }));
}

function showMask(on) {
  view().classList.toggle("mask-view", on);
  writeAddress({ view: on && "mask" });
}

// A view that was asked for before the switch was moved comes with the mask as it was then.
function keepMask() {
  const box = form?.querySelector("[name=view]");
  if (box && view()) showMask(box.checked);
}

const KEYS = {
  j: () => page.querySelector("a[rel=next]")?.click(),
  k: () => page.querySelector("a[rel=prev]")?.click(),
  l: () => step(".response i.p", 1),
  h: () => step(".response i.p", -1),
  m: () => press("view"),
  d: () => press("diff"),
  s: () => press("beside"),
  c: copyLink,
  "?": () => document.getElementById("help").showModal(),
};
["reward", "logprob", "reference", "entropy", "rank", "ratio", "gradient"].forEach((track, index) => {
  KEYS[index + 1] = () => press("lane", track);
});
const MOVES = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity };

const keysOn = document.getElementById("keys-on");
try { keysOn.checked = localStorage.getItem("keys") !== "off"; } catch { /* they are on */ }
keysOn.addEventListener("change", () => {
  try { localStorage.setItem("keys", keysOn.checked ? "on" : "off"); } catch { /* lasts for this page only */ }
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const map = event.target.closest(".minimap");
  if (map && moveMap(map, event.key)) { event.preventDefault(); return; }
  if (map && event.key === "Enter") { focus(tokenAt(mapped(map), Number(map.getAttribute("aria-valuenow")))); return; }
  if (MOVES[event.key] && stepInside(MOVES[event.key])) { event.preventDefault(); return; }
  if (!keysOn.checked) return;
  const field = event.target.closest("input, select, textarea, dialog, [contenteditable]");
  if (field && !field.matches("[type=range], [type=checkbox], [type=radio]")) return;
  const does = KEYS[event.key];
  if (does) { event.preventDefault(); does(); }
});

// Fields that the chosen segmenter lacks are put away.
function showFields() {
  for (const field of form?.querySelectorAll("[data-of]") ?? []) field.hidden = !field.dataset.of.split(" ").includes(form.elements.segmenter.value);
}
form?.addEventListener("input", showFields);
// The slider and the number beside it are one value; the number is what the form sends.
page.addEventListener("input", (event) => {
  const partner = event.target.dataset.partner && document.getElementById(event.target.dataset.partner);
  if (!partner) return;
  partner.value = event.target.value;
  if (event.target.type === "range") partner.dispatchEvent(new Event("input", { bubbles: true }));
});
// A slider that was moved before this script ran, or that the browser put back, counts as moved.
function takeUpSliders() {
  for (const slider of page.querySelectorAll("[type=range][data-partner]")) {
    const untouched = slider.cloneNode();
    untouched.value = slider.defaultValue;
    if (slider.value !== untouched.value) slider.dispatchEvent(new Event("input", { bubbles: true }));
  }
}
page.addEventListener("change", (event) => {
  if (event.target.name === "view") { event.stopPropagation(); showMask(event.target.checked); }
}, true);
document.getElementById("open-help")?.addEventListener("click", KEYS["?"]);

document.addEventListener("htmx:before:swap", holdPlace);
// Labels and the preview are drawn anew beside the view: what the inspector tells then stays.
document.addEventListener("htmx:after:swap", () => {
  if (view() !== known) { readView(); keepMask(); takeUpPlace(); }
});
document.addEventListener("htmx:after:history:replace", keepMask);
at = new URLSearchParams(location.search).get("at");
readView();
focusOfAddress();
// After htmx, which starts in a timer of its own, listens to the controls.
setTimeout(() => { showFields(); takeUpSliders(); keepMask(); });
// Numbers are small; having them before the first hover makes it answer at once.
(window.requestIdleCallback || setTimeout)(() => page.querySelectorAll("[data-tokens]").forEach(tracksOf));
