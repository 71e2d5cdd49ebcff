(() => {
  "use strict";
  const table = document.getElementById("table");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const headings = [...table.tHead.rows[0].cells];
  const drawn = [...document.querySelectorAll("svg .trial")];
  const drawings = [...document.querySelectorAll("svg.lines")];

  // A thin line is hard to point at: an unseen broad one lies over it.
  drawn.forEach((line) => {
    const touch = line.querySelector("path").cloneNode();
    touch.removeAttribute("style");
    touch.classList.add("touch");
    line.append(touch);
  });

  // Absent values stand last in either direction; equal ones keep the trials' order.
  function sort(column, descending) {
    const key = (row) => row.cells[column].dataset.order;
    const known = rows.filter((row) => key(row) !== undefined);
    const absent = rows.filter((row) => key(row) === undefined);
    const numeric = known.every((row) => !Number.isNaN(Number(key(row))));
    const compare = (a, b) => (numeric ? Number(key(a)) - Number(key(b)) : key(a).localeCompare(key(b)));
    known.sort((a, b) => (descending ? compare(b, a) : compare(a, b)));
    body.append(...known, ...absent);
  }

  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const descending = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sort(column, descending);
    });
  });
  if (headings.length) headings[0].setAttribute("aria-sort", "ascending");

  const filter = document.getElementById("filter");
  const boxes = [...filter.querySelectorAll("input")];
  const shown = document.getElementById("shown");
  function show() {
    const wanted = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    const hidden = new Set();
    rows.forEach((row) => {
      row.hidden = !wanted.has(row.dataset.status);
      if (row.hidden) hidden.add(row.dataset.trial);
    });
    drawn.forEach((line) => line.classList.toggle("off", hidden.has(line.dataset.trial)));
    shown.textContent = `${rows.length - hidden.size} of ${rows.length} shown`;
  }
  filter.hidden = boxes.length < 2;
  filter.addEventListener("change", show);
  show();

  function light(trial) {
    drawings.forEach((drawing) => drawing.classList.toggle("lighting", trial !== undefined));
    [...drawn, ...rows].forEach((element) => element.classList.toggle("lit", element.dataset.trial === trial));
  }
  [...drawn, ...rows].forEach((element) => {
    element.addEventListener("pointerenter", () => light(element.dataset.trial));
    element.addEventListener("pointerleave", () => light(undefined));
  });
})();
