"use strict";

// Sorts the table by a column: a click on its heading sorts ascending, the next one descending. Empty values come last.
(() => {
  const table = document.getElementById("slides"), body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const TEXT_COLUMNS = ["patient", "readers"];

  const compareNumbers = (a, b) => a - b;

  // Numbers within texts are compared as numbers. 7 and 007 are different patients, so equal ones are ordered as texts.
  const compareTexts = (a, b) => a.localeCompare(b, undefined, { numeric: true }) || (a < b ? -1 : +(a > b));

  // The row below a slide that says what failed, if there is one.
  const failuresOf = (row) => (row.nextElementSibling?.matches(".failures") ? [row.nextElementSibling] : []);

  function sortBy(heading) {
    const column = headings.indexOf(heading);
    const order = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    for (const other of headings) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", order);
    const compare = TEXT_COLUMNS.includes(heading.dataset.key) ? compareTexts : compareNumbers;
    const sign = order === "ascending" ? 1 : -1;
    const slides = [...body.rows].filter((row) => !row.matches(".failures"));
    const rows = slides.map((row) => ({ row, failures: failuresOf(row), value: row.cells[column].dataset.value }));
    rows.sort((a, b) => (a.value && b.value ? sign * compare(a.value, b.value) : !a.value - !b.value));
    body.append(...rows.flatMap(({ row, failures }) => [row, ...failures]));
    document.getElementById("sorted").textContent = `${heading.textContent}: ${order}`;
  }

  for (const heading of headings) heading.querySelector("button").addEventListener("click", () => sortBy(heading));
})();
