for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th"), body = head.closest("table").tBodies[0];
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = row => {
      const cell = row.cells[head.cellIndex];
      return cell ? cell.dataset.value ?? cell.textContent : "";
    };
    const order = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (!x || !y) return (x ? 0 : 1) - (y ? 0 : 1);
      const less = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return down ? -less : less;
    };
    body.append(...[...body.rows].sort(order));
  });
}
