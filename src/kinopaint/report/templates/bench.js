"use strict";
/* A click on a column's head sorts the rows below it: best value first, then the other way round. */
for (const head of document.querySelectorAll("th[data-sort]")) {
  const button = head.querySelector("button");
  button.addEventListener("click", () => {
    const table = head.closest("table"), column = [...head.parentElement.children].indexOf(head);
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => {
      const text = row.children[column]?.dataset.value ?? "";
      return text === "" ? NaN : Number.isNaN(+text) ? text : +text;
    };
    for (const body of table.tBodies) {
      const order = [...body.rows].sort((first, second) => {
        const [a, b] = [value(first), value(second)];
        if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
        return (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1);
      });
      body.append(...order);
    }
  });
}
