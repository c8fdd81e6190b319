"use strict";
// Tables sort by the column whose head is pressed: once upward, again downward; what is unknown stays last.
for (const head of document.querySelectorAll("table.data thead th")) {
  head.querySelector("button").addEventListener("click", () => {
    const table = head.closest("table");
    const column = head.cellIndex;
    const upward = head.getAttribute("aria-sort") !== "ascending";
    const number = head.classList.contains("number");
    const keyed = [...table.tBodies[0].rows].map((row) => {
      const key = row.cells[column].dataset.value ?? "";
      return { row, unknown: key === "", key: number ? Number(key) : key };
    });
    const order = new Intl.Collator("en", { numeric: true });
    keyed.sort((one, other) => {
      if (one.unknown || other.unknown) return one.unknown - other.unknown;
      const difference = number ? one.key - other.key : order.compare(one.key, other.key);
      return upward ? difference : -difference;
    });
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", upward ? "ascending" : "descending");
    table.tBodies[0].append(...keyed.map((item) => item.row));
  });
}
// A list goes to the clipboard; where a browser does not allow that, it is selected, ready to be copied.
for (const button of document.querySelectorAll(".copy button")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const text = button.parentElement.querySelector("pre");
    const said = button.textContent;
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = said; }, 1500);
  });
}
