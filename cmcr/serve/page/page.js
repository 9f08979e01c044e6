// The page: what is asked, the address that says so, and what comes back.

import { card, made, readable, scaleOf, shown } from "./hits.js";
import { Plane } from "./map.js";
import { holdStill, isStill, record } from "./media.js";

const $ = (id) => document.getElementById(id);
const MOST_SECONDS = 10;
const NAMES = { image: "a picture", audio: "a sound", point_cloud: "a cloud" };
const SIGN = /(?:^|\s)([+\-−])\s+/; // a sign stands between blanks: well-known is a word
const state = { text: "", row: null, file: null, modality: "", k: 12, weights: {}, where: "" };
let space = null, plane = null, asking = null, recording = null;

// "dog - bark" -> dog, and bark taken away.
export function terms(text) {
  const parts = text.trim().split(SIGN), found = [];
  if (parts[0].trim()) found.push({ text: parts[0].trim(), sign: 1 });
  for (let i = 1; i < parts.length; i += 2) {
    if (parts[i + 1].trim()) found.push({ text: parts[i + 1].trim(), sign: parts[i] === "+" ? 1 : -1 });
  }
  return found;
}

async function json(address, options) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the server does not answer; is it still running?");
  }
  const value = await answer.json().catch(() => ({ error: `status ${answer.status}` }));
  if (!answer.ok) throw new Error(value.error ?? `status ${answer.status}`);
  return value;
}

function address() {
  const asked = new URLSearchParams();
  if (state.text) asked.set("q", state.text);
  if (state.row) asked.set("row", state.row);
  asked.set("in", state.modality);
  asked.set("k", state.k);
  for (const [who, weight] of Object.entries(state.weights)) asked.append("w", `${who}=${weight}`);
  if (state.where) asked.set("where", state.where);
  return `/?${asked}`;
}

function readAddress() {
  const asked = new URLSearchParams(location.search), held = space.galleries.map((each) => each.modality);
  state.text = asked.get("q") ?? "";
  state.row = asked.get("row");
  state.file = null;
  state.modality = held.includes(asked.get("in")) ? asked.get("in") : held[0];
  state.k = Math.max(1, Math.min(500, Number(asked.get("k")) || 12));
  state.weights = {};
  state.where = (asked.get("where") ?? "").trim();
  for (const each of asked.getAll("w")) {
    const cut = each.lastIndexOf("=");
    if (cut > 0 && Number.isFinite(Number(each.slice(cut + 1)))) state.weights[each.slice(0, cut)] = Number(each.slice(cut + 1));
  }
}

const asksSomething = () => Boolean(state.text.trim() || state.row || state.file);

function request() {
  if (!state.file) {
    const sum = [...(state.row ? [{ row: state.row, sign: 1 }] : []), ...terms(state.text)];
    const body = { terms: sum, modality: state.modality, k: state.k, weights: state.weights };
    if (state.where) body.where = state.where;
    return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  }
  const form = new FormData();
  form.append("file", state.file, state.file.name);
  form.append("modality", state.modality);
  form.append("k", state.k);
  for (const [who, weight] of Object.entries(state.weights)) form.append("weight", `${who}=${weight}`);
  if (state.where) form.append("where", state.where);
  return { method: "POST", body: form };
}

async function search({ remember = true } = {}) {
  showState();
  if (remember && !state.file && address() !== location.pathname + location.search) history.pushState(null, "", address());
  if (!asksSomething()) return;
  asking?.abort();
  const own = (asking = new AbortController());
  $("error").textContent = "";
  $("status").textContent = "Searching…";
  $("hits").classList.add("busy");
  const begun = performance.now();
  try {
    const answer = await json("/search", { ...request(), signal: own.signal });
    show(answer, (performance.now() - begun) / 1000);
  } catch (error) {
    if (error.name === "AbortError") return;
    $("hits").replaceChildren();
    $("status").textContent = "No answer.";
    $("error").textContent = error.message;
    plane?.mark([]);
  }
  $("hits").classList.remove("busy");
}

function show(answer, seconds) {
  const { hits } = answer, list = $("hits");
  $("examples").hidden = true;
  list.className = { text: "texts", audio: "sounds" }[answer.modality] ?? "";
  list.replaceChildren(...hits.map((hit) => card(hit, scaleOf(hits), state.row, searchOn)));
  const { lacking } = answer.where ?? {}, unknown = lacking ? `; ${lacking.toLocaleString("en")} rows lack a value that the condition asks for` : "";
  const notes = unknown + (answer.notes ? `; ${answer.notes.join("; ")}` : "");
  $("status").textContent =
    `${hits.length} of ${answer.gallery.toLocaleString("en")} ${readable(answer.modality)} rows${answer.where ? " that meet the condition" : ""} nearest to ` +
    `“${answer.query}” (${readable(answer.query_modality)}, seen by ${answer.encoder}), in ${seconds.toFixed(2)} s${notes}`;
  $("link").hidden = Boolean(state.file);
  $("still").hidden = answer.modality !== "point_cloud";
  document.title = `${answer.query} · cmcr`;
  plane?.mark([...hits.map((hit) => hit.row), ...(state.row ? [state.row] : [])]);
}

function searchOn({ row }) {
  Object.assign(state, { text: "", row, file: null });
  search();
  $("results").focus({ preventScroll: true });
  scrollTo({ top: 0 });
}

// Let the controls say what the state is.
function showState() {
  $("text").value = state.text;
  $("text").placeholder = state.row ? "+ red, or - bark: words to add or take away" : "two red drums, or a sum: dog - bark";
  $("k").value = state.k;
  $("where").value = state.where;
  if (state.where || Object.keys(state.weights).length) $("more").open = true;
  for (const input of $("modalities").querySelectorAll("input")) input.checked = input.value === state.modality;
  showFrom();
  for (const box of $("sliders").querySelectorAll("[data-modality]")) {
    const own = Object.keys(state.weights).filter((who) => who.endsWith(`:${box.dataset.modality}`));
    box.querySelector("input[type=checkbox]").checked = own.length > 0;
    for (const slider of box.querySelectorAll("input[type=range]")) {
      slider.disabled = own.length === 0;
      slider.value = state.weights[slider.name] ?? 1;
      slider.nextElementSibling.value = Number(slider.value).toFixed(2);
    }
  }
}

let preview = null;

async function showFrom() {
  if (preview) URL.revokeObjectURL(preview);
  preview = null;
  const asked = state.file ?? state.row;
  if (!asked) return $("from").replaceChildren();
  const chip = made("div", "chip"), name = made("span", "", state.file?.name ?? state.row), away = made("button", "", "×");
  away.type = "button";
  away.setAttribute("aria-label", `Ask no longer with ${name.textContent}`);
  away.addEventListener("click", () => {
    Object.assign(state, { row: null, file: null });
    search();
    $("text").focus();
  });
  chip.append(name, away);
  $("from").replaceChildren(chip);
  if (state.file) {
    const kind = state.file.type.split("/")[0];
    if (kind === "image" || kind === "audio") {
      preview = URL.createObjectURL(state.file);
      chip.prepend(Object.assign(made(kind === "image" ? "img" : "audio"), { src: preview, controls: true, alt: "" }));
    }
    return;
  }
  try {
    const row = await json(`/rows/${asked}`);
    if (state.row !== asked) return;
    name.textContent = row.text ?? `${readable(row.modality)} ${row.id}`;
    if (row.modality !== "text") chip.prepend(shown(row.row, row.text, row.id));
  } catch (error) {
    name.textContent = `${asked}: ${error.message}`;
  }
}

function ask(file) {
  const megabytes = space.limits.upload_bytes / 2 ** 20;
  if (file.size > space.limits.upload_bytes) {
    $("error").textContent = `${file.name} is above ${megabytes} MiB, which is all that this server takes`;
    return;
  }
  Object.assign(state, { file, row: null, text: "" });
  search();
}

function setUp() {
  $("home").textContent = space.space.split("/").filter(Boolean).pop();
  const rows = space.galleries.map((each) => `${each.rows.toLocaleString("en")} ${readable(each.modality)}`).join(", ");
  $("facts").textContent = `${rows} rows in one space of ${space.dim} components, connected by ${space.method}`;
  setUpQueries();
  $("modalities").replaceChildren(...space.galleries.map(({ modality, rows }) => {
    const label = made("label"), input = Object.assign(made("input"), { type: "radio", name: "in", value: modality });
    const name = made("span", "", `${readable(modality)} `);
    name.append(made("b", "", rows.toLocaleString("en")));
    input.addEventListener("change", () => { state.modality = modality; readText(); search(); });
    label.append(input, name);
    return label;
  }));
  setUpWeights();
}

function setUpQueries() {
  const buttons = [];
  for (const { modality, suffixes, missing } of space.queries) {
    if (missing) $("missing").append(made("li", "", `No query of ${readable(modality)}: ${missing}`));
    if (modality === "text") {
      $("text").disabled = Boolean(missing);
      continue;
    }
    if (!suffixes.length) continue;
    const button = made("button", "", `Ask with ${NAMES[modality] ?? readable(modality)}`);
    Object.assign(button, { type: "button", disabled: Boolean(missing), title: missing });
    button.addEventListener("click", () => { $("file").accept = suffixes.join(","); $("file").click(); });
    buttons.push(button);
    if (modality === "audio") buttons.push(recorder(missing));
  }
  $("with").replaceChildren(...buttons, made("span", "", "or drop one anywhere"));
  $("with").hidden = buttons.length === 0;
}

function recorder(missing) {
  const button = made("button", "recording", "Record a sound");
  const cannot = missing || (navigator.mediaDevices?.getUserMedia ? "" : "a browser records only on this machine's own address, or by https");
  Object.assign(button, { type: "button", disabled: Boolean(cannot), title: cannot });
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", async () => {
    if (recording) return recording.stop();
    try {
      recording = await record(MOST_SECONDS);
      button.setAttribute("aria-pressed", "true");
      button.textContent = "End the recording";
      $("status").textContent = `Recording, up to ${MOST_SECONDS} seconds…`;
      ask(await recording.file);
    } catch (error) {
      $("error").textContent = `no sound was recorded: ${error.message}`;
    } finally {
      recording = null;
      button.setAttribute("aria-pressed", "false");
      button.textContent = "Record a sound";
    }
  });
  return button;
}

// Weights stand where several encoders see one modality: of a query that all of them embed, and of mixed rows.
function setUpWeights() {
  const boxes = [];
  for (const { modality, encoders } of space.queries) {
    const mixed = space.galleries.find((each) => each.modality === modality)?.mixed ?? [];
    const usable = encoders.filter(({ name, missing }) => !missing || mixed.includes(name));
    if (usable.length < 2) continue;
    const box = made("div"), on = made("label"), check = Object.assign(made("input"), { type: "checkbox" });
    box.dataset.modality = modality;
    on.append(check, ` Weigh who sees ${readable(modality)}`);
    box.append(on, ...usable.map(({ name }) => slider(`${name}:${modality}`, name)));
    const changed = () => {
      for (const each of box.querySelectorAll("input[type=range]")) {
        delete state.weights[each.name];
        if (check.checked) state.weights[each.name] = Number(each.value);
      }
      readText();
      search();
    };
    box.addEventListener("change", changed);
    boxes.push(box);
  }
  $("sliders").replaceChildren(...boxes);
  $("weights-too").hidden = boxes.length === 0;
}

function slider(who, name) {
  const label = made("label", "weight"), value = made("output");
  const input = Object.assign(made("input"), { type: "range", min: 0, max: 2, step: 0.05, name: who });
  input.addEventListener("input", () => { value.value = Number(input.value).toFixed(2); });
  label.append(made("span", "", name), input, value);
  return label;
}

function readText() {
  state.text = $("text").value;
  state.where = $("where").value.trim();
}

function listen() {
  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    readText();
    if (state.text.trim()) state.file = null;
    state.k = Math.max(1, Math.min(500, Math.round(Number($("k").value)) || 12));
    if (asksSomething()) search();
    else $("text").focus();
  });
  for (const id of ["k", "where"]) $(id).addEventListener("change", () => { readText(); if (asksSomething()) $("ask").requestSubmit(); });
  $("file").addEventListener("change", () => { if ($("file").files[0]) ask($("file").files[0]); $("file").value = ""; });
  addEventListener("popstate", () => { readAddress(); begin(); });
  $("link").addEventListener("click", async () => {
    const link = new URL(address(), location.href).href;
    try {
      await navigator.clipboard.writeText(link);
      $("link").textContent = "Copied";
    } catch {
      prompt("The link to this question", link);
    }
    setTimeout(() => { $("link").textContent = "Copy the link"; }, 2000);
  });
  $("still").addEventListener("click", () => {
    holdStill(!isStill());
    $("still").setAttribute("aria-pressed", String(isStill()));
  });
  $("still").setAttribute("aria-pressed", String(isStill()));
  let within = 0;
  const files = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => { if (files(event)) { within += 1; document.body.classList.add("dropping"); } });
  addEventListener("dragleave", (event) => { if (files(event) && (within -= 1) <= 0) document.body.classList.remove("dropping"); });
  addEventListener("dragover", (event) => { if (files(event)) event.preventDefault(); });
  addEventListener("drop", (event) => {
    within = 0;
    document.body.classList.remove("dropping");
    if (!files(event)) return;
    event.preventDefault();
    if (event.dataTransfer.files[0]) ask(event.dataTransfer.files[0]);
  });
}

// What to try, where nothing is asked yet: a few short texts of the memories, and a row of each modality.
function suggest(data) {
  const texts = [], rows = {};
  for (const [, , , row, title] of data.points) {
    const [modality] = row.split("/");
    if (modality === "text") texts.push(title);
    else if (row) rows[modality] ??= row;
  }
  const few = [...new Set(texts)].filter((text) => text.length < 44).slice(0, 4), list = made("div");
  if (!$("text").disabled) list.append(...few.map((text) => suggestion(text, { text, row: null })));
  list.append(...Object.entries(rows).map(([modality, row]) => suggestion(`from ${NAMES[modality] ?? `a row of ${readable(modality)}`}`, { text: "", row })));
  $("examples").replaceChildren(made("p", "soft", "Ask in words, with a file, or from a point of the map. For instance:"), list);
}

function suggestion(label, asked) {
  const button = Object.assign(made("button", "", label), { type: "button" });
  button.addEventListener("click", () => { Object.assign(state, { file: null }, asked); search(); });
  return button;
}

function begin() {
  if (asksSomething()) search({ remember: false });
  else {
    showState();
    $("hits").replaceChildren();
    $("status").textContent = "";
    $("examples").hidden = false;
    $("link").hidden = $("still").hidden = true;
    plane?.mark([]);
  }
}

async function main() {
  try {
    space = await json("/space");
  } catch (error) {
    $("error").textContent = error.message;
    return;
  }
  readAddress();
  setUp();
  listen();
  begin();
  try {
    const data = await json("/map");
    plane = new Plane(data, searchOn);
    const shown = data.points.length < data.total ? `${data.points.length.toLocaleString("en")} of ${data.total.toLocaleString("en")} rows, drawn at random` : `${data.total.toLocaleString("en")} rows`;
    $("map-about").textContent = `${shown}; the two directions of greatest variance, ${(100 * (data.explained[0] + data.explained[1])).toFixed(0)} % of it`;
    suggest(data);
    plane.mark([...document.querySelectorAll("#hits .card")].map((each) => each.dataset.row).filter(Boolean));
  } catch (error) {
    $("map-about").textContent = `No map: ${error.message}`;
  }
}

main();
