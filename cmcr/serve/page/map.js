// The map: rows as marks of their encoder and modality, drawn on a canvas; a pointer or the arrow keys choose one.

import { made, readable } from "./hits.js";

// Okabe and Ito's colours, which the colour-blind tell apart; the shape says it once more.
const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#b8a800"];
const SHAPES = ["M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z", "M-3.6-3.6h7.2v7.2h-7.2z", "M0-4.6L4.4 3.4h-8.8z", "M0-5L4.4 0L0 5L-4.4 0z",
  "M-1.4-4.4h2.8v3h3v2.8h-3v3h-2.8v-3h-3v-2.8h3z", "M0 4.6L4.4-3.4h-8.8z",
  "M-4.4-2.4L-2.4-4.4L0-2L2.4-4.4L4.4-2.4L2 0L4.4 2.4L2.4 4.4L0 2L-2.4 4.4L-4.4 2.4L-2 0z"].map((path) => new Path2D(path));
const LOOK = (group) => ({ colour: COLOURS[group % COLOURS.length], shape: SHAPES[(group + Math.floor(group / COLOURS.length)) % SHAPES.length] });
const NEAR = 14; // pixels between pointer and mark
const MARGIN = 0.06;

export class Plane {
  constructor(data, searchOn) {
    this.canvas = document.getElementById("plane");
    this.tip = document.getElementById("tip");
    this.searchOn = searchOn;
    this.data = data;
    this.points = data.points.map(([x, y, group, row, title]) => ({ x, y, group, row, title }));
    this.off = new Set();
    this.marked = new Set();
    this.chosen = null;
    this.whole();
    this.legend();
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  whole() {
    Object.assign(this, { zoom: 1, cx: 0, cy: 0 });
    this.draw();
  }

  mark(rows) {
    this.marked = new Set(rows);
    this.draw();
  }

  // Where a point lies on the canvas, in CSS pixels.
  place({ x, y }) {
    const { clientWidth: w, clientHeight: h } = this.canvas, scale = this.zoom * (Math.min(w, h) / 2) * (1 - MARGIN);
    return [w / 2 + (x - this.cx) * scale, h / 2 - (y - this.cy) * scale];
  }

  draw() {
    const ratio = devicePixelRatio || 1, { clientWidth: w, clientHeight: h } = this.canvas;
    if (this.canvas.width !== Math.round(w * ratio)) this.canvas.width = Math.round(w * ratio);
    if (this.canvas.height !== Math.round(h * ratio)) this.canvas.height = Math.round(h * ratio);
    const context = this.canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
    const size = Math.min(1.6, 0.75 + 0.12 * Math.log2(this.zoom + 1));
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, w, h);
    const found = [];
    for (const point of this.points) {
      if (this.off.has(point.group)) continue;
      if (this.marked.has(point.row) || point === this.chosen) found.push(point);
      this.#stamp(context, point, size, this.marked.size ? 0.35 : 0.75);
    }
    for (const point of found) {
      this.#stamp(context, point, 1.5, 1);
      const [x, y] = this.place(point);
      context.beginPath();
      context.arc(x, y, point === this.chosen ? 11 : 9, 0, 2 * Math.PI);
      context.lineWidth = point === this.chosen ? 2.5 : 1.5;
      context.strokeStyle = style.getPropertyValue("--ink");
      context.stroke();
    }
  }

  #stamp(context, point, size, alpha) {
    const [x, y] = this.place(point), { colour, shape } = LOOK(point.group);
    if (x < -9 || y < -9 || x > this.canvas.clientWidth + 9 || y > this.canvas.clientHeight + 9) return;
    context.save();
    context.translate(x, y);
    context.scale(size, size);
    context.globalAlpha = alpha;
    context.fillStyle = colour;
    context.fill(shape);
    context.restore();
  }

  legend() {
    const list = document.getElementById("legend");
    list.replaceChildren(...this.data.groups.map((group, number) => {
      const item = made("li"), button = made("button"), mark = made("canvas"), { colour, shape } = LOOK(number);
      mark.width = mark.height = 28;
      mark.setAttribute("aria-hidden", "true");
      const context = mark.getContext("2d");
      context.translate(14, 14);
      context.scale(2.6, 2.6);
      context.fillStyle = colour;
      context.fill(shape);
      button.type = "button";
      button.setAttribute("aria-pressed", "true");
      button.append(mark, `${group.encoder} ${readable(group.modality)}`, made("b", "", group.rows.toLocaleString("en")));
      button.addEventListener("click", () => {
        const shown = this.off.delete(number);
        if (!shown) this.off.add(number);
        button.setAttribute("aria-pressed", String(shown));
        this.draw();
      });
      item.append(button);
      return item;
    }));
  }

  listen() {
    const { canvas } = this;
    let drag = null;
    const at = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
    canvas.addEventListener("pointerdown", (event) => {
      drag = { from: at(event), cx: this.cx, cy: this.cy, moved: false };
    });
    canvas.addEventListener("pointermove", (event) => {
      const [x, y] = at(event);
      if (drag && event.buttons) {
        drag.moved ||= Math.hypot(x - drag.from[0], y - drag.from[1]) > 5;
        if (drag.moved) this.move(drag, x, y, event);
      } else this.choose(this.nearest(x, y));
    });
    canvas.addEventListener("pointerleave", () => this.choose(null));
    canvas.addEventListener("click", (event) => {
      if (drag?.moved) return;
      const point = this.nearest(...at(event));
      if (point?.row) this.searchOn(point);
    });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomAt(...at(event), Math.exp(-event.deltaY / 400));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => this.choose(null));
    const middle = (factor) => () => this.zoomAt(canvas.clientWidth / 2, canvas.clientHeight / 2, factor);
    document.getElementById("in").addEventListener("click", middle(1.6));
    document.getElementById("out").addEventListener("click", middle(1 / 1.6));
    document.getElementById("whole").addEventListener("click", () => this.whole());
  }

  move(drag, x, y) {
    const scale = this.zoom * (Math.min(this.canvas.clientWidth, this.canvas.clientHeight) / 2) * (1 - MARGIN);
    this.cx = drag.cx - (x - drag.from[0]) / scale;
    this.cy = drag.cy + (y - drag.from[1]) / scale;
    this.choose(null);
    this.draw();
  }

  zoomAt(x, y, factor) {
    const { clientWidth: w, clientHeight: h } = this.canvas, unit = (Math.min(w, h) / 2) * (1 - MARGIN);
    const before = this.zoom;
    this.zoom = Math.max(0.8, Math.min(80, this.zoom * factor));
    this.cx += (x - w / 2) / unit * (1 / before - 1 / this.zoom);
    this.cy -= (y - h / 2) / unit * (1 / before - 1 / this.zoom);
    this.draw();
  }

  nearest(x, y) {
    let best = null, least = NEAR;
    for (const point of this.points) {
      if (this.off.has(point.group)) continue;
      const [px, py] = this.place(point), distance = Math.hypot(px - x, py - y);
      if (distance < least) [best, least] = [point, distance];
    }
    return best;
  }

  key(event) {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (way) this.step(...way);
    else if (event.key === "Enter" && this.chosen?.row) this.searchOn(this.chosen);
    else if (event.key === "+" || event.key === "=") this.zoomAt(...this.centre(), 1.6);
    else if (event.key === "-") this.zoomAt(...this.centre(), 1 / 1.6);
    else if (event.key === "0") this.whole();
    else if (event.key === "Escape") this.choose(null);
    else return;
    event.preventDefault();
  }

  centre() {
    return this.chosen ? this.place(this.chosen) : [this.canvas.clientWidth / 2, this.canvas.clientHeight / 2];
  }

  // Go to the next item that way: near, and not much off the line.
  step(dx, dy) {
    const [x, y] = this.centre();
    let best = null, least = Infinity;
    for (const point of this.points) {
      if (point === this.chosen || this.off.has(point.group)) continue;
      const [px, py] = this.place(point), along = (px - x) * dx + (py - y) * dy, aside = Math.abs((px - x) * dy + (py - y) * dx);
      if (along > 0.5 && along + 2 * aside < least) [best, least] = [point, along + 2 * aside];
    }
    if (!best) return;
    const [px, py] = this.place(best), { clientWidth: w, clientHeight: h } = this.canvas;
    if (px < 0 || py < 0 || px > w || py > h) Object.assign(this, { cx: best.x, cy: best.y });
    this.choose(best, true);
  }

  choose(point, aloud = false) {
    if (point === this.chosen) return;
    this.chosen = point;
    this.tip.hidden = !point;
    if (point) this.show(point);
    if (aloud && point) document.getElementById("map-told").textContent = `${this.about(point)}: ${point.title}`;
    this.draw();
  }

  about(point) {
    const group = this.data.groups[point.group];
    return `${readable(group.modality)}, seen by ${group.encoder}`;
  }

  show(point) {
    const parts = [made("span", "", point.title), made("small", "", this.about(point))];
    if (point.row.startsWith("image/")) {
      const picture = Object.assign(made("img"), { alt: "", src: `/media/${point.row}` });
      picture.addEventListener("error", () => picture.remove());
      parts.unshift(picture);
    }
    this.tip.replaceChildren(...parts);
    const [x, y] = this.place(point), { clientWidth: w, clientHeight: h } = this.canvas;
    this.tip.style.left = `${Math.max(4, Math.min(w - 172, x > w / 2 ? x - 184 : x + 16))}px`;
    this.tip.style.top = `${Math.max(4, Math.min(h - 140, y - 40))}px`;
  }
}
