// sorts a table by a click on a column's title; without JavaScript the table stays as it is
for (const table of document.querySelectorAll(".sortable table")) {
  const [body] = table.tBodies, titles = [...table.querySelectorAll("thead th")];
  titles.forEach((title, column) => {
    const text = row => row.cells[column].textContent.trim();
    const button = document.createElement("button");
    button.append(...title.childNodes);
    title.append(button);
    button.onclick = () => {
      const sign = title.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      titles.forEach(other => other.removeAttribute("aria-sort"));
      title.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const isLeftOut = row => text(row) === "–" || text(row) === "";
      const rows = [...body.rows].filter(row => !isLeftOut(row)), leftOut = [...body.rows].filter(isLeftOut);
      const isNumber = rows.every(row => !isNaN(text(row)));
      rows.sort((a, b) => sign * (isNumber ? text(a) - text(b) : text(a).localeCompare(text(b), "en", {numeric: true})));
      body.append(...rows, ...leftOut);
    };
  });
}
