// The filters: search, labels, and histograms that are brushed.

import { h, svg, put, count, figure } from "./dom.js";
import { bars } from "./filter.js";
import { isFiltered } from "./state.js";

export class Panel {
  constructor(app, element) {
    this.app = app;
    this.element = element;
    this.histograms = new Map();
    const { release } = app;
    this.search = h("input", { type: "search", id: "search", placeholder: "words of a caption", autocomplete: "off",
      oninput: () => { clearTimeout(this.timer); this.timer = setTimeout(() => app.set({ q: this.search.value.trim() }, "quiet"), 250); } });
    this.clear = h("button", { type: "button", class: "quiet", onclick: () => app.set({ q: "", kind: [], split: [], dominant: [], flags: [], n: {}, box: null }) }, "Clear all filters");
    this.box = h("button", { type: "button", class: "chip on", onclick: () => app.set({ box: null }), hidden: true }, "chosen on the map ✕");
    this.chips = new Map();
    const streams = h("select", { id: "scores-of", onchange: () => this.showStream(streams.value) },
      h("option", { value: "" }, "mean of all streams"), release.streams.map((stream) => h("option", { value: stream }, stream)));
    const groups = new Map();
    for (const column of release.numbers) {
      if (!groups.has(column.group)) groups.set(column.group, []);
      groups.get(column.group).push(column);
    }
    put(element,
      h("div", { class: "block" }, h("label", { for: "search" }, "Search in captions"), this.search),
      h("div", { class: "block row" }, this.clear, this.box),
      release.codes.map((code) => this.labels(code)),
      [...groups].map(([group, columns], i) => h("details", { open: group === "Captions" || (i === 0) },
        h("summary", {}, group),
        group === "Captions" && release.streams.length > 1 ? h("label", { class: "select" }, "Scores of", streams) : null,
        columns.map((column) => this.histogram(column)))));
    this.showStream("");
  }

  labels(code) {
    const buttons = code.labels.map((label, i) => {
      if (!code.counts[i]) return null;
      const button = h("button", { type: "button", class: "chip", "aria-pressed": "false", onclick: () => this.toggle(code.name, label) },
        code.name === "dominant" ? h("i", { class: "swatch", colour: this.app.release.palette[i] }) : null,
        label, h("small", {}, count(code.counts[i])));
      this.chips.set(`${code.name}:${label}`, button);
      return button;
    }).filter(Boolean);
    if (!buttons.length) return null;
    return h("div", { class: "block", role: "group", "aria-label": code.title }, h("h2", {}, code.title), h("div", { class: "chips" }, buttons));
  }

  toggle(name, label) {
    const now = this.app.state[name];
    this.app.set({ [name]: now.includes(label) ? now.filter((other) => other !== label) : [...now, label] });
  }

  showStream(stream) {
    for (const [name, histogram] of this.histograms) {
      const own = this.app.release.numberOf.get(name);
      histogram.element.hidden = own.group === "Captions" && own.stream !== stream && Boolean(own.stream || stream);
    }
  }

  histogram(column) {
    const histogram = new Histogram(this.app, column);
    this.histograms.set(column.name, histogram);
    return histogram.element;
  }

  /** Show a state; `kept` is a byte per row. */
  show(state, kept) {
    if (document.activeElement !== this.search) this.search.value = state.q;
    this.clear.hidden = !isFiltered(state);
    this.box.hidden = !state.box;
    for (const [key, button] of this.chips) {
      const [name, label] = [key.slice(0, key.indexOf(":")), key.slice(key.indexOf(":") + 1)];
      const isOn = state[name].includes(label);
      button.setAttribute("aria-pressed", String(isOn));
      button.classList.toggle("on", isOn);
    }
    for (const [name, histogram] of this.histograms) histogram.show(state.n[name], kept, isFiltered(state));
  }
}

const WIDE = 240, HIGH = 36;

/** The distribution of a column: drag over it, or type both ends. */
export class Histogram {
  constructor(app, column) {
    this.app = app;
    this.column = column;
    const most = Math.max(...column.bins);
    const step = WIDE / column.bins.length;
    const bar = (n, i, kind) => svg("rect", { class: kind, x: i * step, width: Math.max(0.5, step - 1), y: HIGH - this.tall(n, most), height: this.tall(n, most) });
    this.most = most;
    this.step = step;
    this.all = column.bins.map((n, i) => bar(n, i, "all"));
    this.some = column.bins.map((n, i) => bar(n, i, "some"));
    this.brush = svg("rect", { class: "brush", y: 0, height: HIGH, width: 0 });
    this.drawing = svg("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", "aria-hidden": "true" }, this.all, this.some, this.brush);
    this.drawing.addEventListener("pointerdown", (event) => this.press(event));
    const end = (label) => h("input", { type: "number", step: "any", "aria-label": `${column.title}, ${label}`, onchange: () => this.typed() });
    this.low = end("at least");
    this.high = end("at most");
    this.reset = h("button", { type: "button", class: "quiet", "aria-label": `Clear ${column.title}`, onclick: () => this.set(null), hidden: true }, "✕");
    const unit = column.unit && column.unit.length < 9 ? ` (${column.unit})` : "";
    const nulls = column.nulls ? h("small", {}, `${count(column.nulls)} without`) : null;
    this.element = h("div", { class: "histogram", title: column.meaning, role: "group", "aria-label": column.title },
      h("div", { class: "name" }, h("span", {}, column.title + unit), nulls),
      this.drawing, h("div", { class: "ends" }, this.low, h("span", {}, "to"), this.high, this.reset));
  }

  tall(n, most) {
    return n ? Math.max(1.5, (HIGH - 1) * Math.sqrt(n / most)) : 0;
  }

  press(event) {
    event.preventDefault();
    const { left, width } = this.drawing.getBoundingClientRect();
    const value = (e) => Math.min(1, Math.max(0, (e.clientX - left) / width));
    const from = value(event);
    const range = (e) => [Math.min(from, value(e)), Math.max(from, value(e))];
    const move = (e) => this.mark(range(e));
    const up = (e) => {
      window.removeEventListener("pointermove", move);
      const { low, high } = this.column, [a, b] = range(e), span = high - low || 1;
      this.set(b - a < 0.01 ? null : [rounded(low + a * span), rounded(low + b * span)]);
    };
    window.addEventListener("pointermove", move);
    window.addEventListener("pointerup", up, { once: true });
  }

  typed() {
    const { low, high } = this.column;
    const ends = [parseFloat(this.low.value), parseFloat(this.high.value)];
    this.set(ends.every(Number.isNaN) ? null : [Number.isNaN(ends[0]) ? rounded(low - 1e-9) : ends[0], Number.isNaN(ends[1]) ? rounded(high + 1e-9) : ends[1]]);
  }

  set(range) {
    const n = { ...this.app.state.n };
    if (range) n[this.column.name] = range; else delete n[this.column.name];
    this.app.set({ n });
  }

  mark([a, b]) {
    this.brush.setAttribute("x", a * WIDE);
    this.brush.setAttribute("width", Math.max(0, b - a) * WIDE);
  }

  show(range, kept, isFiltered) {
    const { low, high } = this.column, span = high - low || 1;
    this.reset.hidden = !range;
    this.low.value = range ? range[0] : "";
    this.high.value = range ? range[1] : "";
    this.low.placeholder = figure(low);
    this.high.placeholder = figure(high);
    this.element.classList.toggle("on", Boolean(range));
    const clamp = (x) => Math.min(1, Math.max(0, (x - low) / span));
    this.mark(range ? [clamp(range[0]), clamp(range[1])] : [0, 0]);
    const values = this.app.release.numberNow(this.column.name);
    const isKnown = values && isFiltered && this.element.offsetParent;
    const counts = isKnown ? bars(this.column, values, kept) : this.column.bins;
    this.drawing.classList.toggle("faint", isFiltered && !isKnown);
    counts.forEach((n, i) => {
      this.some[i].setAttribute("y", HIGH - this.tall(n, this.most));
      this.some[i].setAttribute("height", this.tall(n, this.most));
    });
  }
}

const rounded = (x) => +x.toPrecision(5);
