"use strict";
// Headers become buttons that sort; without this script it is a table like any other.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const headers = [...table.tHead.rows[0].cells];
  const text = (row, column) => row.cells[column].textContent.trim();
  const number = (row, column) => Number(text(row, column).replaceAll(",", ""));

  function sort(header, column) {
    const direction = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of headers) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
    const numeric = header.classList.contains("number");
    const compare = (a, b) => numeric
      ? number(a, column) - number(b, column)
      : text(a, column).localeCompare(text(b, column), "en", { numeric: true });
    const rows = [...body.rows];
    const known = rows.filter((row) => text(row, column) !== "");
    const unknown = rows.filter((row) => text(row, column) === ""); // last, whichever way
    body.append(...known.sort((a, b) => direction * compare(a, b)), ...unknown);
  }

  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sort(header, column));
    header.append(button);
  });
}
