// Keys: arrows turn pages and problems, t folds thoughts, / goes to the search. Nothing here writes or evaluates text.
"use strict";
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const at = event.target;
  if (at.closest && at.closest("input, select, textarea, svg, pre, .scroll")) {
    if (event.key !== "Escape") return;
    at.blur();
  }
  const turn = { ArrowLeft: "prev", k: "prev", ArrowRight: "next", j: "next", u: "up" }[event.key];
  if (turn) {
    const link = document.querySelector(`a[rel="${turn}"]`);
    if (link) { event.preventDefault(); link.click(); }
  } else if (event.key === "/") {
    const search = document.querySelector('input[type="search"]');
    if (search) { event.preventDefault(); search.focus(); }
  } else if (event.key === "t") {
    const thoughts = [...document.querySelectorAll(".sides details")];
    const open = !thoughts.every((one) => one.open);
    thoughts.forEach((one) => { one.open = open; });
  }
});
