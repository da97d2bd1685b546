// What every page of coloured tokens knows of them: which piece stands where, and how its numbers are written.
// Scripts that come after this one use it.
"use strict";

let indexes = new WeakMap(); // response -> its tokens and the position of each

function indexOf(response) {
  if (!indexes.has(response)) {
    const tokens = [...response.querySelectorAll("i")];
    const starts = [];
    let position = 0;
    for (const token of tokens) { starts.push(position); position += Number(token.dataset.n || 1); }
    const places = new Map(tokens.map((token, index) => [token, index]));
    const blocks = [...response.querySelectorAll(".t")];
    const begins = blocks.map((block) => starts[places.get(block.querySelector("i"))] ?? position);
    indexes.set(response, { tokens, starts, places, blocks, begins, count: position });
  }
  return indexes.get(response);
}

const positionOf = (token) => {
  const { starts, places } = indexOf(token.closest(".response"));
  return starts[places.get(token)];
};

function lastAtMost(values, wanted) {
  let low = 0, high = values.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (values[middle] <= wanted) low = middle; else high = middle - 1;
  }
  return low;
}

function number(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  const text = Number.isInteger(value) ? String(Math.abs(value)) : String(Number(Math.abs(value).toPrecision(digits)));
  return (value < 0 ? "−" : "") + text;
}

function fact(name, value) {
  const span = document.createElement("span");
  const bold = document.createElement("b");
  bold.textContent = value;
  span.append(`${name} `, bold);
  return span;
}

const written = (token) => token.textContent.replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll(" ", "·") || "(no text)";
