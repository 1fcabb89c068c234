"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const film = byId("film"), stage = byId("stage"), wipeStart = 50;
const results = data.names.length;
let mode = "wipe", chosen = 0, wipe = null, pictures = [], playheads = [], hovered = null;

const hints = {
  wipe: "Drag across the picture: source on the left, result on the right.",
  side: "All pictures are of the same frame.",
  difference: "How far each result is from its source, three times as bright.",
  flicker: "Bright: the result changes along the motion more than its source does.",
};

/* The film holds all pictures of a moment as tiles: source, results, flicker maps. */
function put(context, tile) {
  const { width, height, cell, columns } = data.tiles;
  const x = (tile % columns) * cell[0], y = Math.floor(tile / columns) * cell[1];
  context.drawImage(film, x, y, width, height, 0, 0, width, height);
}
const source = 0, result = (place) => 1 + place, flicker = (place) => 1 + results + place;

function element(name, attributes = {}, ...inside) {
  const svg = ["svg", "path", "line", "rect"].includes(name);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...inside);
  return made;
}

function picture(caption, draw, more = "") {
  const canvas = element("canvas", { width: data.tiles.width, height: data.tiles.height, class: more, role: "img", "aria-label": caption });
  const figure = element("figure", {}, canvas, element("figcaption", {}, caption));
  const context = canvas.getContext("2d");
  pictures.push({ canvas, draw: () => draw(context) });
  stage.append(figure);
  return figure;
}

function show() {
  stage.replaceChildren();
  pictures = [];
  wipe = null;
  const all = [...data.names.keys()];
  if (mode === "wipe") {
    const figure = picture("source", (context) => {
      put(context, source);
      const at = Math.round(data.tiles.width * wipe.value / 100);
      context.save();
      context.beginPath();
      context.rect(at, 0, data.tiles.width - at, data.tiles.height);
      context.clip();
      put(context, result(chosen));
      context.restore();
    });
    figure.append(element("figcaption", { class: "right" }, data.names[chosen]));
    wipe = element("input", { type: "range", id: "wipe", min: 0, max: 100, step: 0.5, value: wipeStart, "aria-label": "Wipe between source and result" });
    const line = element("div", { class: "wipe-line", style: `left:${wipeStart}%` });
    wipe.addEventListener("input", () => { line.style.left = `${wipe.value}%`; draw(); });
    figure.append(wipe, line);
  } else if (mode === "side") {
    picture("source", (context) => put(context, source));
    for (const place of all) picture(data.names[place], (context) => put(context, result(place)));
  } else if (mode === "difference") {
    for (const place of all) {
      picture(data.names[place], (context) => {
        context.globalCompositeOperation = "source-over";
        put(context, result(place));
        context.globalCompositeOperation = "difference";
        put(context, source);
      }, "bright");
    }
  } else {
    for (const place of all) picture(data.names[place], (context) => put(context, flicker(place)));
  }
  arrange();
  byId("hint").textContent = hints[mode];
  byId("choose").hidden = results < 2 || mode !== "wipe";
  for (const button of byId("modes").children) button.setAttribute("aria-pressed", button.dataset.mode === mode);
  draw();
}

/* As many columns as make the pictures largest within the width and the window's height. */
function arrange() {
  const ratio = data.tiles.width / data.tiles.height, count = pictures.length;
  const room = stage.parentElement.clientWidth, tall = Math.max(260, Math.min(window.innerHeight, 1000) * 0.6);
  let best = 0, columns = 1;
  for (let tried = 1; tried <= count; tried++) {
    const lines = Math.ceil(count / tried);
    const width = Math.min(room / tried, (tall / lines) * ratio);
    if (width > best + 1) { best = width; columns = tried; }
  }
  stage.style.gridTemplateColumns = `repeat(${columns}, minmax(0, ${Math.floor(best)}px))`;
}

function draw() {
  if (film.readyState >= 2) for (const one of pictures) one.draw();
}

/* Time */
function place() {
  const now = film.currentTime + 1e-4;
  let low = 0, high = data.at.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (data.at[middle] <= now) low = middle; else high = middle - 1;
  }
  return low;
}

function go(index) {
  index = Math.max(0, Math.min(data.at.length - 1, index));
  const end = index + 1 < data.at.length ? data.at[index + 1] : (film.duration || data.at[index]);
  film.currentTime = (data.at[index] + Math.max(end, data.at[index])) / 2;
  tell(index);
}

function goToFrame(frame) {
  let nearest = 0;
  data.frames.forEach((number, index) => {
    if (Math.abs(number - frame) < Math.abs(data.frames[nearest] - frame)) nearest = index;
  });
  go(nearest);
}

function tell(index = place()) {
  byId("seek").value = index;
  byId("seek").setAttribute("aria-valuetext", `frame ${data.frames[index]}`);
  byId("clock").textContent = `frame ${data.frames[index]} · ${data.times[index].toFixed(2)} s`;
  const frame = hovered ?? data.frames[index];
  for (const one of playheads) one(data.frames[index], frame);
}

function toggle() {
  if (film.paused) film.play(); else film.pause();
}

function follow() {
  draw();
  tell();
  if (!film.paused) requestAnimationFrame(follow);
}

const icons = { play: "M2 0v14l12-7z", pause: "M2 0h3.6v14H2zM8.4 0H12v14H8.4z" };
function playing() {
  byId("play").setAttribute("aria-label", film.paused ? "Play" : "Pause");
  byId("play").querySelector("path").setAttribute("d", film.paused ? icons.play : icons.pause);
}
film.addEventListener("play", () => { playing(); follow(); });
film.addEventListener("pause", playing);
film.addEventListener("seeked", () => { draw(); tell(); });
film.addEventListener("loadeddata", () => { draw(); tell(); });
film.addEventListener("error", () => { byId("hint").textContent = "This browser cannot play the film in this file (H.264 in MP4)."; });

/* Curves */
const digits = (value) => (value === null || value === undefined ? "–" : String(+value.toPrecision(3)));

function curve(about) {
  const all = [...about.series, ...(about.source ? [about.source] : [])].flat().filter((value) => value !== null);
  const low = Math.min(...all), high = Math.max(...all), span = high - low || 1;
  const x = (index) => ((index + 0.5) * about.every / data.count) * 1000;
  const y = (value) => 96 - 92 * (high === low ? 0.5 : (value - low) / span);
  const path = (series) => {
    let text = "", pen = false;
    series.forEach((value, index) => {
      if (value === null) { pen = false; return; }
      text += `${pen ? "L" : "M"}${x(index).toFixed(2)} ${y(value).toFixed(2)}`;
      if (!pen && (index + 1 >= series.length || series[index + 1] === null)) text += "h0.01";
      pen = true;
    });
    return text;
  };
  const svg = element("svg", { viewBox: "0 0 1000 100", preserveAspectRatio: "none", class: "plotted", role: "img", "aria-label": `${about.name} per frame, ${digits(low)} to ${digits(high)}` });
  for (const [first, last] of hidden()) {
    svg.append(element("rect", { x: (first / data.count) * 1000, y: 0, width: ((last + 1 - first) / data.count) * 1000, height: 100 }));
  }
  if (about.source) svg.append(element("path", { class: "source", d: path(about.source) }));
  about.series.forEach((series, index) => svg.append(element("path", { class: `s${index % 8}`, d: path(series) })));
  const head = element("line", { y1: -4, y2: 104, x1: 0, x2: 0 });
  svg.append(head);

  const frameAt = (event) => {
    const box = svg.getBoundingClientRect();
    return Math.max(0, Math.min(data.count - 1, Math.floor(((event.clientX - box.left) / box.width) * data.count)));
  };
  svg.addEventListener("click", (event) => { film.pause(); goToFrame(frameAt(event)); });
  svg.addEventListener("pointermove", (event) => { hovered = frameAt(event); tell(); });
  svg.addEventListener("pointerleave", () => { hovered = null; tell(); });

  const now = element("div", { class: "now" });
  const spans = about.series.map((_, index) => element("span", { class: results > 1 ? `s${index % 8}` : "" }));
  now.append(...spans);
  playheads.push((frame, valueAt) => {
    head.setAttribute("x1", ((frame + 0.5) / data.count) * 1000);
    head.setAttribute("x2", ((frame + 0.5) / data.count) * 1000);
    about.series.forEach((series, index) => { spans[index].textContent = digits(series[Math.floor(valueAt / about.every)]); });
  });
  return element("div", { class: "curve" },
    element("div", { class: "name", title: about.what }, `${about.name} ${about.arrow}`,
      element("div", { class: "range" }, `${digits(low)} to ${digits(high)}`)), svg, now);
}

/* Runs of frames that the film leaves out. */
function hidden() {
  const runs = [], shown = new Set(data.frames);
  for (let frame = 0; frame < data.count; frame++) {
    if (shown.has(frame)) continue;
    const last = runs[runs.length - 1];
    if (last && last[1] === frame - 1) last[1] = frame; else runs.push([frame, frame]);
  }
  return runs;
}

const key = element("div", { class: "key" });
if (results > 1) data.names.forEach((name, index) => key.append(element("span", { class: `s${index % 8}` }, element("i"), name)));
if (data.curves.some((about) => about.source)) key.append(element("span", { class: "dashed" }, element("i"), "source"));
byId("curves").append(key);
for (const about of data.curves) byId(about.open ? "curves" : "others").append(curve(about));
byId("more").hidden = data.curves.every((about) => about.open);

/* Hands */
byId("play").addEventListener("click", toggle);
byId("seek").addEventListener("input", (event) => { film.pause(); go(+event.target.value); });
byId("speed").addEventListener("change", (event) => { film.playbackRate = +event.target.value; });
byId("result").addEventListener("change", (event) => { chosen = +event.target.value; show(); });
byId("modes").addEventListener("click", (event) => {
  if (event.target.dataset.mode) { mode = event.target.dataset.mode; show(); }
});
for (const button of document.querySelectorAll("[data-frame]")) {
  button.addEventListener("click", () => {
    film.pause();
    chosen = +button.dataset.result;
    byId("result").value = chosen;
    goToFrame(+button.dataset.frame);
    show();
  });
}
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT)$/.test(event.target.tagName)) return;
  if (event.key === " " && event.target.tagName !== "BUTTON" && event.target.tagName !== "SUMMARY") { toggle(); event.preventDefault(); }
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step) { film.pause(); go(place() + step * (event.shiftKey ? 10 : 1)); event.preventDefault(); }
  const wanted = byId("modes").children[+event.key - 1];
  if (wanted) wanted.click();
});
window.addEventListener("resize", arrange);
show();
tell(0);
