// A click on a table's heading sorts by it, a second one the other way round; what has no value stays last.
const compare = (a, b, sign) => {
  const [x, y] = [Number(a), Number(b)];
  if (isNaN(x) && isNaN(y)) return sign * a.localeCompare(b);
  return isNaN(x) || isNaN(y) ? isNaN(x) - isNaN(y) : sign * (x - y);
};

const sortable = (head, column) => {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const body = head.closest("table").tBodies[0];
    const value = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
    body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b), sign)));
  });
};

for (const row of document.querySelectorAll("thead tr")) [...row.cells].forEach(sortable);
