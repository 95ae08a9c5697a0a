// Sorts and searches the long tables of a report. Without it they are in their own order, and whole.
const ORDER = ["many", "medium", "few"];

// What a cell is sorted by: the number that it begins with, the place of a group, or its first line.
function key(cell) {
  const text = (cell.firstElementChild?.matches("bdi") ? cell.firstElementChild : cell.firstChild)?.textContent.trim() ?? "";
  if (cell.querySelector("bdi")) return text;
  if (ORDER.includes(text)) return ORDER.indexOf(text);
  return parseFloat(text.replaceAll(",", "").replace("−", "-"));
}

function compare(left, right) {
  if (typeof left === "string") return left.localeCompare(right, undefined, { numeric: true });
  return left - right;
}

// Rows without a value come last, whichever way the others go.
function sort(table, column, direction) {
  const rows = [...table.tBodies[0].rows].map((row) => ({ row, value: key(row.cells[column]) }));
  const none = ({ value }) => value === "" || Number.isNaN(value);
  rows.sort((a, b) => none(a) - none(b) || (none(a) ? 0 : direction * compare(a.value, b.value)));
  table.tBodies[0].append(...rows.map(({ row }) => row));
}

for (const table of document.querySelectorAll("table.listed")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.ariaSort === "ascending";
      for (const other of heads) other.ariaSort = null;
      head.ariaSort = down ? "descending" : "ascending";
      sort(table, column, down ? -1 : 1);
    });
  });

  const field = document.createElement("input");
  field.type = "search";
  field.autocomplete = "off";
  const label = document.createElement("label");
  label.append("Find a class ", field);
  const status = document.createElement("span");
  status.role = "status";
  const line = document.createElement("p");
  line.className = "find";
  line.append(label, " ", status);
  table.parentElement.before(line);
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    const rows = [...table.tBodies[0].rows];
    for (const row of rows) row.hidden = ![...row.querySelectorAll("bdi")].some((name) => name.textContent.toLowerCase().includes(wanted));
    const shown = rows.filter((row) => !row.hidden).length;
    status.textContent = wanted ? `${shown} of ${rows.length} rows` : "";
  });
}
