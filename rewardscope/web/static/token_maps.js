// A pair over the steps of a training: the slider says the step it is on, follows the list, and plays; the pointer
// tells the reward of a token.
"use strict";

const told = document.getElementById("inspector");
const resting = told?.innerHTML;
const MINUS = "\u2212";

// What a token holds at the step that is shown.
function tellToken(token) {
  const response = token.closest(".response");
  let position = 0;
  for (const piece of response.querySelectorAll("i")) {
    if (piece === token) break;
    position += Number(piece.dataset.n || 1);
  }
  const rewards = JSON.parse(document.querySelector(".step-rewards").textContent)[response.dataset.side];
  const values = rewards.slice(position, position + Number(token.dataset.n || 1));
  const said = values.map((value) => (value === null ? "–" : String(value).replace("-", MINUS))).join(" | ");
  const name = document.createElement("span");
  name.className = "token";
  name.textContent = token.textContent.replaceAll("\n", "↵").replaceAll(" ", "·");
  const facts = [[`${response.dataset.side}, token`, position], ["reward at this step", said]].map(([label, value]) => {
    const fact = document.createElement("span");
    const bold = document.createElement("b");
    bold.textContent = value;
    fact.append(`${label} `, bold);
    return fact;
  });
  told.replaceChildren(name, ...facts);
}

document.addEventListener("pointerover", (event) => {
  const token = told && event.target.closest?.(".response i");
  if (token) tellToken(token);
});
document.addEventListener("pointerout", (event) => {
  if (told && event.target.closest?.(".response i") && !event.relatedTarget?.closest?.(".response i")) told.innerHTML = resting;
});

const slider = document.getElementById("at");
const play = document.getElementById("play");
let playing = null;

function name() {
  slider.setAttribute("aria-valuetext", JSON.parse(slider.dataset.labels)[Number(slider.value)]);
}

function move(place) {
  slider.value = place;
  name();
  slider.dispatchEvent(new Event("input", { bubbles: true }));
}

function stop() {
  clearInterval(playing);
  playing = null;
  play.setAttribute("aria-pressed", "false");
  play.textContent = "Play";
}

if (slider) {
  slider.addEventListener("input", name);
  slider.addEventListener("pointerdown", stop);
  play.addEventListener("click", () => {
    if (playing) { stop(); return; }
    play.setAttribute("aria-pressed", "true");
    play.textContent = "Stop";
    if (slider.value === slider.max) move(0);
    playing = setInterval(() => {
      if (slider.value === slider.max) stop(); else move(Number(slider.value) + 1);
    }, 700);
  });
  // A step that was chosen in the list.
  document.addEventListener("htmx:after:swap", () => {
    const rows = [...document.querySelectorAll(".steps-table tbody tr")];
    const shown = rows.findIndex((row) => row.hasAttribute("aria-current"));
    if (shown >= 0) { slider.value = shown; name(); }
  });
}
