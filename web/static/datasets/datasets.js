// Brushing of histograms, by pointer and by the handles beneath, and what stays while the table is drawn anew.
"use strict";
{
  const parts = (box) => ({
    svg: box.querySelector("svg"),
    brush: box.querySelector(".brush"),
    numbers: [...box.querySelectorAll(".numbers input")],
    sliders: [...box.querySelectorAll(".sliders input")],
    first: Number(box.dataset.first),
    bar: Number(box.dataset.bar),
    bars: Number(box.dataset.bars),
    whole: "whole" in box.dataset,
  });
  const written = (value) => String(Number(value.toPrecision(10)));

  // Shows the bars [from, to) as chosen: in the picture, on the handles and in the number fields. An end of the
  // picture is no bound, because its bars also hold what lies beyond.
  function show(box, from, to) {
    const { brush, numbers, sliders, first, bar, bars, whole } = parts(box);
    brush.setAttribute("x", from);
    brush.setAttribute("width", to - from);
    sliders[0].value = first + from * bar;
    sliders[1].value = first + to * bar;
    numbers[0].value = from <= 0 ? "" : written(first + from * bar);
    numbers[1].value = to >= bars ? "" : written(first + to * bar - (whole ? 1 : 0));
    const [low, high] = numbers.map((field) => field.value);
    box.classList.toggle("bounded", Boolean(low || high));
    box.querySelector("output").textContent =
      low && high ? `${low} to ${high}` : low ? `from ${low}` : high ? `up to ${high}` : "all";
  }

  const ask = (box) => box.form.requestSubmit();

  let held = null; // {box, start, moved} while the pointer draws
  const bar = (box, event) => {
    const { svg, bars } = parts(box);
    const { left, width } = svg.getBoundingClientRect();
    return Math.min(Math.max(((event.clientX - left) / width) * bars, 0), bars - 1e-9);
  };

  document.addEventListener("pointerdown", (event) => {
    const svg = event.target.closest?.(".histogram svg");
    if (!svg || event.button !== 0) return;
    const box = svg.closest(".histogram");
    held = { box, start: bar(box, event), moved: false, id: event.pointerId };
    svg.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  document.addEventListener("pointermove", (event) => {
    if (held?.id !== event.pointerId) return;
    const here = bar(held.box, event);
    held.moved ||= Math.abs(here - held.start) > 0.3;
    const [from, to] = here < held.start ? [here, held.start] : [held.start, here];
    if (held.moved) show(held.box, Math.floor(from), Math.floor(to) + 1);
  });
  document.addEventListener("pointerup", (event) => {
    if (held?.id !== event.pointerId) return;
    const { box, start, moved } = held;
    held = null;
    if (!moved) {
      // A click takes the range away, or where there is none, takes the bar.
      const place = Math.floor(start);
      if (box.classList.contains("bounded")) show(box, 0, parts(box).bars);
      else show(box, place, place + 1);
    }
    ask(box);
  });
  document.addEventListener("pointercancel", () => { held = null; });

  document.addEventListener("input", (event) => {
    const box = event.target.closest?.(".sliders")?.closest(".histogram");
    if (!box) return;
    const { sliders, first, bar: width, bars } = parts(box);
    let [from, to] = sliders.map((slider) => Math.round((Number(slider.value) - first) / width));
    // The handles never pass each other: one bar stays between them.
    if (event.target.dataset.end === "low") from = Math.min(from, to - 1);
    else to = Math.max(to, from + 1);
    show(box, Math.max(from, 0), Math.min(to, bars));
  });

  document.addEventListener("htmx:before:request", () => document.getElementById("explorer")?.classList.add("refreshing"));
  document.addEventListener("htmx:after:swap", () => {
    document.getElementById("explorer")?.classList.remove("refreshing");
    // Without any column the table shows its usual ones, and so do the boxes.
    const boxes = [...document.querySelectorAll("[name=columns]")];
    if (!boxes.some((box) => box.checked)) for (const box of boxes) box.checked = box.defaultChecked;
  });
}
