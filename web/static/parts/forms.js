// Long forms: the method that is chosen decides which fields there are (forms.css hides the others).
"use strict";
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-method] [name='method.name']")) event.target.form.dataset.method = event.target.value;
});
// Browsers put back what was typed when a page is opened again, without saying that it changed.
document.addEventListener("DOMContentLoaded", () => {
  for (const choice of document.querySelectorAll("[data-method] [name='method.name']")) choice.form.dataset.method = choice.value;
});
