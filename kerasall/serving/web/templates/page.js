// Sends each chosen image by itself, so that each has its own progress and its own error.
"use strict";

const AT_ONCE = 4;
const TRIES_WHEN_BUSY = 20;
const facts = document.getElementById("facts").dataset;
const labels = JSON.parse(facts.labels);
const malignant = new Set(JSON.parse(facts.malignant));
const explains = facts.explains === "true";
const largest = Number(facts.largest);
const entries = [];
const waiting = [];
let running = 0;

const byId = (id) => document.getElementById(id);
const votes = facts.kind === "vote_share";
// Of votes all or none may speak; no network is certain, whatever rounding says.
const percent = (share, exact = false) =>
  !exact && share > 0.9995 ? ">99.9%" : !exact && share < 0.0005 ? "<0.1%" : (Math.floor(1000 * share + 0.5) / 10).toFixed(1) + "%";

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

// ---- the queue -------------------------------------------------------------

function add(files) {
  for (const file of files) {
    const entry = { file, state: "waiting", answer: null, error: "" };
    entry.card = makeCard(entry);
    entries.push(entry);
    waiting.push(entry);
    byId("cards").append(entry.card.item);
  }
  byId("results").hidden = entries.length === 0;
  next();
}

function next() {
  while (running < AT_ONCE && waiting.length) {
    const entry = waiting.shift();
    running += 1;
    answer(entry).finally(() => {
      running -= 1;
      next();
    });
  }
  summarize();
}

async function answer(entry) {
  try {
    await drawThumbnail(entry);
    if (entry.file.size > largest) throw new Error(`${entry.file.name} is larger than this server takes (${Math.floor(largest / 1048576)} MiB): crop or shrink it`);
    const body = await send("/v1/predict", entry, {}, (share) => showProgress(entry, share));
    const result = body.results[0];
    entry.answer = result;
    entry.state = "done";
    showAnswer(entry, result, body.model);
  } catch (error) {
    entry.error = error.message;
    entry.state = "failed";
    showError(entry);
  }
}

async function send(path, entry, fields, progress) {
  for (let attempt = 1; ; attempt += 1) {
    const response = await post(path, entry.file, fields, progress);
    if (response.status === 503 && attempt < TRIES_WHEN_BUSY) {
      await new Promise((resume) => setTimeout(resume, 1000 * (response.retryAfter || 1) * (1 + Math.random())));
    } else if (response.status === 200) {
      return response.body;
    } else {
      // The server itself always says why; a proxy in front of it does not.
      const cure = response.status === 413 ? "a proxy in front of it takes no file of this size" : "try again";
      throw new Error(response.body.error || `The server answered ${response.status}: ${cure}`);
    }
  }
}

// Not fetch: it cannot tell how much of an upload has been sent.
function post(path, file, fields, progress) {
  return new Promise((resolve, reject) => {
    const form = new FormData();
    for (const [name, value] of Object.entries(fields)) form.append(name, value);
    form.append("files", file, file.name);
    const request = new XMLHttpRequest();
    request.open("POST", facts.root + path);
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.onerror = () => reject(new Error("The server cannot be reached: is it still running?"));
    request.onload = () => {
      let body = {};
      try {
        body = JSON.parse(request.responseText);
      } catch {
        // no body that can be read; the status says enough
      }
      resolve({ status: request.status, body, retryAfter: Number(request.getResponseHeader("Retry-After")) });
    };
    request.send(form);
  });
}

// ---- cards -----------------------------------------------------------------

function makeCard(entry) {
  const canvas = make("canvas", { width: 256, height: 256 });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Image ${entry.file.name}`);
  const picture = make("div", { className: "picture" }, canvas);
  const bar = make("progress", { max: 1, value: 0 });
  bar.setAttribute("aria-label", `Progress of ${entry.file.name}`);
  const state = make("p", { className: "muted progress" }, "waiting");
  const content = make("div", { className: "content" }, make("h3", { className: "name" }, entry.file.name), state, bar);
  return { item: make("li", { className: "card" }, picture, content), picture, canvas, content, state, bar };
}

async function drawThumbnail(entry) {
  const { canvas, picture } = entry.card;
  try {
    const image = await createImageBitmap(entry.file);
    const scale = Math.min(canvas.width / image.width, canvas.height / image.height);
    const [width, height] = [image.width * scale, image.height * scale];
    canvas.getContext("2d").drawImage(image, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
    image.close();
  } catch {
    picture.append(make("span", { className: "muted note" }, "Your browser cannot show this file."));
  }
}

function showProgress(entry, share) {
  const { bar, state } = entry.card;
  state.textContent = share < 1 ? `sending, ${Math.round(100 * share)}%` : "the model is looking";
  if (share < 1) bar.value = share;
  else bar.removeAttribute("value");
}

function showError(entry) {
  const { item, state, bar, content } = entry.card;
  item.classList.add("failed");
  state.remove();
  bar.remove();
  content.append(make("p", { className: "alert bad" }, entry.error));
}

function showAnswer(entry, result, model) {
  const { state, bar, content, picture } = entry.card;
  state.remove();
  bar.remove();
  const shares = result.calibrated_probabilities || result.probabilities;
  content.append(
    make("p", { className: "answer" },
      make("span", { className: labelClass(result) }, result.label),
      make("span", { className: "probability" }, percent(result.probability, votes) + (votes ? " of votes" : ""))),
    ...(result.refer ? [make("p", { className: "alert warning" }, make("strong", {}, "Refer to a person: "), reasonOf(result))] : []),
    make("ul", { className: "shares" }, ...labels.map((label) => makeShare(label, shares[label], label === result.label))),
    ...(result.members ? [makeMembers(result)] : []),
  );
  content.querySelector(".answer").title = `${model.name}, version ${model.version}`;
  if (explains) picture.append(makeOverlayButton(entry, result, model));
  if (model.version !== facts.version) {
    byId("newer").hidden = false;
    byId("newer").textContent = `Version ${model.version} of the model answers now: open this page anew to read what is known of it.`;
  }
}

// Green would reassure: not of an image that a person should look at.
function labelClass(result) {
  if (malignant.has(result.label)) return "label malignant";
  return malignant.size && !result.refer ? "label" : "label plain";
}

function reasonOf(result) {
  const left = (result.prediction_set || []).length > 1 ? ` (${result.prediction_set.join(", ")})` : "";
  return (result.refer_reason || "the model is not sure") + left;
}

function makeShare(label, share, chosen) {
  const meter = make("meter", { min: 0, max: 1, value: share });
  meter.setAttribute("aria-label", `${label} ${percent(share, votes)}`);
  const value = make("span", { className: "share-value" }, percent(share, votes));
  return make("li", { className: chosen ? "chosen" : "" }, make("span", { className: "share-label" }, label), meter, value);
}

function makeMembers(result) {
  const agreeing = result.members.filter((member) => member.label === result.label).length;
  const rows = result.members.map((member) =>
    make("li", {}, make("span", {}, member.name), make("span", {}, `${member.label} ${percent(member.probabilities[member.label])}`)));
  return make("details", {},
    make("summary", {}, `Members: ${agreeing} of ${result.members.length} say ${result.label}`),
    make("ul", { className: "members" }, ...rows));
}

// ---- where the model looked -------------------------------------------------

function makeOverlayButton(entry, result, model) {
  const button = make("button", { type: "button" }, "Where it looked");
  const note = make("span", { className: "muted note" });
  note.setAttribute("role", "status");
  button.setAttribute("aria-pressed", "false");
  button.setAttribute("aria-label", `Where the model looked in ${entry.file.name}`);
  const canvas = entry.card.canvas;
  const plain = make("canvas", { width: canvas.width, height: canvas.height });
  plain.getContext("2d").drawImage(canvas, 0, 0);
  let overlay = null;
  button.addEventListener("click", async () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.disabled = true;
    try {
      if (on && !overlay) overlay = await loadOverlay(entry, result, model, note);
      const context = canvas.getContext("2d");
      context.clearRect(0, 0, canvas.width, canvas.height);
      context.drawImage(on ? overlay : plain, 0, 0, canvas.width, canvas.height);
      button.setAttribute("aria-pressed", String(on));
      note.hidden = !on;
    } catch (error) {
      note.hidden = false;
      note.textContent = error.message;
    }
    button.disabled = false;
  });
  return make("div", {}, button, note);
}

async function loadOverlay(entry, result, model, note) {
  const fields = { label: result.label, version: model.version };
  const explained = await send("/v1/explain", entry, fields, () => {});
  const image = new Image();
  image.src = "data:image/png;base64," + explained.overlay;
  await image.decode();
  note.textContent = explained.has_evidence
    ? `The part of the image that the model was given; brighter: more evidence for ${result.label}.`
    : `Nothing in the image speaks for ${result.label}.`;
  return image;
}

// ---- the table -------------------------------------------------------------

function summarize() {
  const count = (state) => entries.filter((entry) => entry.state === state).length;
  const [done, failed] = [count("done"), count("failed")];
  const referred = entries.filter((entry) => entry.answer && entry.answer.refer).length;
  const parts = [`${done + failed} of ${entries.length} images`];
  if (failed) parts.push(`${failed} could not be read`);
  if (referred) parts.push(`${referred} to refer`);
  if (done + failed === entries.length) parts.push(new Date().toLocaleString());
  byId("summary").textContent = parts.join(" · ");
  byId("download").disabled = done + failed === 0;
}

// The columns of `kerasall predict`; those after "error" only where the model says them.
const extras = [
  ...labels.map((label) => [`calibrated_${label}`, (found) => found.calibrated_probabilities?.[label].toFixed(9)]),
  ["prediction_set", (found) => found.prediction_set?.join("|")],
  ["domain_distance", (found) => found.domain_distance?.toFixed(9)],
  ["refer", (found) => found.refer?.toString()],
  ["refer_reason", (found) => found.refer_reason],
];

function toCsv() {
  const answers = entries.filter((entry) => entry.state === "done" || entry.state === "failed");
  const told = extras.filter(([, read]) => answers.some(({ answer: found }) => found && read(found) !== undefined));
  const rows = [["path", "label", ...JSON.parse(facts.columns), "error", ...told.map(([name]) => name)]];
  for (const { file, answer: found, error } of answers) {
    const shares = labels.map((label) => (found ? found.probabilities[label].toFixed(9) : ""));
    rows.push([file.name, found ? found.label : "", ...shares, error, ...told.map(([, read]) => (found && read(found)) ?? "")]);
  }
  return rows.map((row) => row.map(toCell).map(quote).join(",")).join("\r\n") + "\r\n";
}

// A spreadsheet takes a cell that begins so for a formula; the same as to_cell in kerasall/shown_text.py.
const toCell = (text) =>
  /^'*[\s\0-\x1f\x85\ufeff\u200b=+@\uff1d\uff0b\uff0d\uff20-]/.test(text) && !/^'*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$/.test(text) ? "'" + text : text;
const quote = (cell) => (/[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);

function download() {
  const link = make("a", { download: "predictions.csv" });
  link.href = URL.createObjectURL(new Blob(["\ufeff", toCsv()], { type: "text/csv" }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function clear() {
  waiting.length = 0;
  entries.length = 0;
  byId("cards").replaceChildren();
  byId("results").hidden = true;
  byId("files").focus();
}

// ---- set-up ----------------------------------------------------------------

function setUp() {
  document.querySelectorAll(".with-script").forEach((element) => (element.hidden = false));
  document.querySelectorAll(".without-script").forEach((element) => (element.hidden = true));
  const [drop, input] = [byId("drop"), byId("files")];
  input.addEventListener("change", () => {
    add([...input.files]);
    input.value = ""; // the same file may be chosen again
  });
  byId("form").addEventListener("submit", (event) => event.preventDefault());
  for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
  drop.addEventListener("dragover", () => drop.classList.add("over"));
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    drop.classList.remove("over");
    add([...event.dataTransfer.files]);
  });
  byId("download").addEventListener("click", download);
  byId("clear").addEventListener("click", clear);
}

if (!byId("cards").children.length) setUp();
