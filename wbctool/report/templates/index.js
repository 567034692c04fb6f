"use strict";

// Sorting the table by a column: a press on its heading, once for ascending, again for descending. Empty values go last.
(() => {
  const table = document.getElementById("slides"), body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const WORDS = ["patient", "status", "readers"];

  function sortBy(head) {
    const column = heads.indexOf(head);
    const falling = head.getAttribute("aria-sort") === "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const rows = [...body.rows].map((row) => ({ row, value: row.cells[column].dataset.value }));
    const compare = WORDS.includes(head.dataset.key) ? byWords : (a, b) => a - b;
    rows.sort((a, b) => (!a.value || !b.value ? !a.value - !b.value : (falling ? -1 : 1) * compare(a.value, b.value)));
    body.append(...rows.map(({ row }) => row));
    document.getElementById("sorted").textContent = `${head.textContent}: ${head.getAttribute("aria-sort")}`;
  }

  // 7 and 007 are two patients: what collates alike is parted by its letters, so that equals stand together.
  const byWords = (a, b) => a.localeCompare(b, undefined, { numeric: true }) || (a < b ? -1 : +(a > b));

  for (const head of heads) head.querySelector("button").addEventListener("click", () => sortBy(head));
})();
