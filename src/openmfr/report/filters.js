// Shows the decisions that a person asks for, and saves those that were ticked as wrong.
"use strict";
{
  const bar = document.querySelector(".filters");
  const save = bar.querySelector("button");
  const search = bar.querySelector("[type=search]");
  const kinds = [...bar.querySelectorAll("[type=checkbox]")];
  const figures = [...document.querySelectorAll("figure.decision")].map((figure) => {
    const text = figure.dataset.text.toLowerCase();
    return { figure, text, numbers: new Set(text.match(/\d+/g)), box: figure.querySelector(".veto input") };
  });

  // A number is found as a whole: 17 does not find 170.
  const has = ({ text, numbers }, word) => (/^\d+$/.test(word) ? numbers.has(word) : text.includes(word));
  const ticked = () => figures.filter(({ box }) => box.checked);

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = new Set(kinds.filter((kind) => kind.checked).map((kind) => kind.value));
    let count = 0;
    for (const entry of figures) {
      const isShown = shown.has(entry.figure.dataset.kind) && words.every((word) => has(entry, word));
      entry.figure.hidden = !isShown;
      count += isShown;
    }
    bar.querySelector("output").textContent = `${count} of ${figures.length}`;
  }

  function count() {
    save.disabled = !ticked().length;
    save.textContent = `Save vetoes (${ticked().length})`;
  }

  function download() {
    const lines = [save.dataset.header, ...ticked().map(({ box }) => box.value)];
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([lines.join("\r\n") + "\r\n"], { type: "text/csv" }));
    link.download = save.dataset.name;
    link.click();
    URL.revokeObjectURL(link.href);
  }

  bar.addEventListener("input", filter);
  bar.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("change", count);
  save.addEventListener("click", download);
  document.querySelector(".unscripted").hidden = true;
  for (const part of [bar, ...document.querySelectorAll(".veto")]) part.hidden = false;
  filter();
  count();
}
