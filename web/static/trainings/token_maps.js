// A pair over the steps of a training: the slider says the step it is on, follows the list, and plays; the pointer
// tells the reward of a token. Stands on tokens.js.
"use strict";

const told = document.getElementById("inspector");
const resting = told?.innerHTML;
const rewardsOf = new WeakMap(); // the numbers of a step, as they came -> as they are read

// What a token holds at the step that is shown.
function tellToken(token) {
  const came = document.querySelector(".step-rewards");
  if (!rewardsOf.has(came)) rewardsOf.set(came, JSON.parse(came.textContent));
  const { side } = token.closest(".response").dataset;
  const position = positionOf(token);
  const values = rewardsOf.get(came)[side].slice(position, position + Number(token.dataset.n || 1));
  const text = document.createElement("span");
  text.className = "token";
  text.textContent = written(token);
  told.replaceChildren(
    text, fact(`${side}, token`, position), fact("reward at this step", values.map((value) => number(value, 5)).join(" | ")),
  );
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
