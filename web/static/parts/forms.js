// Long forms: the method that is chosen decides which fields there are (forms.css hides the others).
"use strict";
function showFieldsOf(choice) {
  for (const part of choice.form.querySelectorAll("[data-methods]"))
    part.toggleAttribute("data-other", !part.dataset.methods.split(" ").includes(choice.value));
}
document.addEventListener("change", (event) => {
  if (event.target.matches("[name='method.name']")) showFieldsOf(event.target);
});
// Browsers put back what was typed when a page is opened again, without saying that it changed.
document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("[name='method.name']").forEach(showFieldsOf));
