// The slider over the steps of a training: says the step it is on, follows the list, and plays.
"use strict";

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
