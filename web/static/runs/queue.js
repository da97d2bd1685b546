// The queue: moves by key, the focus stays with the run that moved, and what a move came to is announced.
"use strict";

const MOVES = { ArrowUp: "up", ArrowDown: "down", Home: "top" };
let mover = null; // the run that was moved last, and by which button

document.addEventListener("keydown", (event) => {
  const move = event.altKey && !event.ctrlKey && !event.metaKey && MOVES[event.key];
  const row = event.target.closest?.("[data-place]");
  if (!move || !row) return;
  event.preventDefault(); // Alt with arrows or Home would leave the page in some browsers.
  row.querySelector(`button.${move}`)?.click();
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("#queue button");
  if (button) mover = { row: button.closest("tr").id, id: document.activeElement?.id || button.id };
});

document.addEventListener("htmx:after:swap", () => {
  const queue = document.getElementById("queue");
  const message = queue?.dataset.message;
  if (!message || !mover) return;
  document.getElementById("queue-message").textContent = message;
  const row = document.getElementById(mover.row);
  row?.classList.add("moved");
  // The button may be gone, as the one that moves up is at the top: then the run's name has the focus.
  const target = document.getElementById(mover.id) ?? row?.querySelector("button, a");
  if (target && document.activeElement !== target) target.focus({ preventScroll: true });
  mover = null;
});
