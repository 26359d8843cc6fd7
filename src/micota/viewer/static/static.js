// Filters of the exported list: rows that do not fit are hidden. Texts are only compared, never written or run.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const form = document.querySelector("form[data-static]");
  if (!form) return;
  const rows = [...document.querySelectorAll("tr[data-problem]")];
  const at = (name) => (form.elements[name] ? form.elements[name].value : "");
  const share = (model) => {
    const found = new Map();
    rows.filter((row) => row.dataset.model === model).forEach((row) => {
      const sums = found.get(row.dataset.problem) || [0, 0];
      found.set(row.dataset.problem, [sums[0] + (row.dataset.verdict === "correct"), sums[1] + 1]);
    });
    return (problem) => (found.has(problem) ? found.get(problem)[0] / found.get(problem)[1] : NaN);
  };
  const filter = () => {
    const right = share(at("right")), wrong = share(at("wrong"));
    const pair = at("right") && at("wrong");
    const words = at("q").toLowerCase().split(/\s+/).filter(Boolean);
    const problems = new Set();
    let count = 0;
    rows.forEach((row) => {
      const data = row.dataset;
      const fits = ["model", "benchmark", "verdict", "level", "subject"].every((name) => !at(name) || data[name] === at(name))
        && ["disagree", "truncated", "repetitive"].every((name) => !form.elements[name].checked || data[name] === "1")
        && (!at("least") || +data.tokens >= +at("least")) && (!at("most") || +data.tokens <= +at("most"))
        && (!pair || (right(data.problem) > 0.5 && wrong(data.problem) < 0.5))
        && words.every((word) => row.textContent.toLowerCase().includes(word));
      row.hidden = !fits;
      if (fits) { count += 1; problems.add(data.problem); }
    });
    document.getElementById("count").textContent = `${count} responses to ${problems.size} problems`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => { event.preventDefault(); filter(); });
});
