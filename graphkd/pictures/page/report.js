"use strict";
// Without script every section and picture is shown; with it, one tab, one moment and one order at a time.
const tabs = [...document.querySelectorAll("[role=tab]")];
const show = (name) => {
  const chosen = tabs.find((tab) => tab.getAttribute("aria-controls") === name) ?? tabs[0];
  for (const tab of tabs) {
    tab.setAttribute("aria-selected", String(tab === chosen));
    document.getElementById(tab.getAttribute("aria-controls")).hidden = tab !== chosen;
  }
};
for (const tab of tabs) {
  tab.addEventListener("click", () => {
    const name = tab.getAttribute("aria-controls");
    history.replaceState(null, "", `#${name}`);
    show(name);
  });
}
window.addEventListener("hashchange", () => show(location.hash.slice(1)));
document.querySelector("nav").classList.add("ready");
show(location.hash.slice(1));

for (const slider of document.querySelectorAll("input[type=range]")) {
  const figures = [...slider.closest("section").querySelectorAll("figure.moment")];
  const move = () => {
    figures.forEach((figure, number) => { figure.hidden = number !== Number(slider.value); });
    slider.nextElementSibling.value = figures[Number(slider.value)].querySelector("figcaption").textContent;
  };
  slider.addEventListener("input", move);
  move();
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const text = (row) => row.cells[column].textContent;
    const number = (row) => (text(row) === "-" ? -1 : Number(text(row)));
    const compare = head.classList.contains("number")
      ? (a, b) => number(a) - number(b)
      : (a, b) => text(a).localeCompare(text(b));
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort((a, b) => sign * compare(a, b)));
    for (const other of heads) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
  }));
}
