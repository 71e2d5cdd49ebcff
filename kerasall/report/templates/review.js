(() => {
  "use strict";
  const items = [...document.querySelectorAll(".item")];
  const reviewer = document.getElementById("reviewer");
  const progress = document.getElementById("progress");
  const store = "kerasall-review-" + document.getElementById("queue").dataset.digest;
  const comment = (item) => item.querySelector(".answer input[type=text]");
  const radios = (item) => [...item.querySelectorAll("input[type=radio]")];
  const answer = (item) => (radios(item).find((radio) => radio.checked) || { value: "" }).value;

  // Private windows and some browsers refuse to store for local files: the page then works without.
  const kept = (work) => { try { return work(); } catch { return null; } };

  function save() {
    const answers = items.map((item) => [answer(item), comment(item).value]);
    kept(() => localStorage.setItem(store, JSON.stringify({ reviewer: reviewer.value, answers })));
    show();
  }

  function restore() {
    const saved = kept(() => JSON.parse(localStorage.getItem(store)));
    if (!saved || !Array.isArray(saved.answers) || saved.answers.length !== items.length) return;
    reviewer.value = saved.reviewer;
    saved.answers.forEach(([value, text], number) => {
      radios(items[number]).forEach((radio) => { radio.checked = radio.value === value; });
      comment(items[number]).value = text;
    });
  }

  function show() {
    const decided = items.filter((item) => answer(item));
    items.forEach((item) => item.classList.toggle("decided", Boolean(answer(item))));
    const changed = decided.filter((item) => answer(item) !== item.dataset.label).length;
    progress.textContent = `${decided.length} of ${items.length} decided, ${changed} not as labelled`;
  }

  // A spreadsheet takes a cell that begins so for a formula; the same as to_cell in kerasall/shown_text.py.
  const toCell = (text) =>
    /^'*[\s\0-\x1f\x85\ufeff\u200b=+@\uff1d\uff0b\uff0d\uff20-]/.test(text) && !/^'*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$/.test(text) ? "'" + text : text;
  const quote = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

  function table() {
    const rows = items.filter((item) => answer(item)).map((item) => [
      item.dataset.id, item.dataset.label, answer(item), reviewer.value.trim(), comment(item).value.trim(),
    ]);
    return [["id", "label", "corrected_label", "reviewer", "comment"], ...rows]
      .map((row) => row.map(toCell).map(quote).join(",") + "\r\n").join("");
  }

  function download() {
    if (!items.some((item) => answer(item))) {
      progress.textContent = "Decide on at least one image first.";
      return;
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([table()], { type: "text/csv" }));
    link.download = "corrections.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  function go(item) {
    if (!item) return;
    item.scrollIntoView({ block: "start" });
    item.focus({ preventScroll: true });
  }

  function press(event) {
    const item = event.target.closest(".item");
    if (!item || event.target.type === "text" || event.ctrlKey || event.metaKey || event.altKey) return;
    const place = items.indexOf(item);
    if (event.key === "n" || event.key === "p") {
      go(items[place + (event.key === "n" ? 1 : -1)]);
    } else if (/^[0-9]$/.test(event.key)) {
      const choices = radios(item);
      const radio = event.key === "0" ? choices.at(-1) : choices.slice(0, -1)[Number(event.key) - 1];
      if (!radio) return;
      radio.checked = true;
      save();
    } else {
      return;
    }
    event.preventDefault();
  }

  function clear() {
    if (!confirm("Forget all answers and comments on this page?")) return;
    items.forEach((item) => {
      radios(item).forEach((radio) => { radio.checked = false; });
      comment(item).value = "";
    });
    save();
  }

  document.querySelectorAll(".scripted").forEach((element) => { element.hidden = false; });
  restore();
  show();
  document.addEventListener("input", save);
  document.addEventListener("keydown", press);
  document.getElementById("download").addEventListener("click", download);
  document.getElementById("clear").addEventListener("click", clear);
  document.getElementById("next").addEventListener("click", () => {
    const here = items.indexOf(document.activeElement.closest(".item"));
    const later = [...items.slice(here + 1), ...items.slice(0, here + 1)];
    const open = later.find((item) => !answer(item));
    if (open) go(open); else progress.textContent = "Every image is decided.";
  });
})();
