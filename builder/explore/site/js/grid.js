// Tiles by the hundred thousand: only those on the screen are elements.

import { h, put, count, figure } from "./dom.js";

const SPARE = 1; // lines above and below the screen that are there already

export class Grid {
  constructor(app) {
    this.app = app;
    this.rows = new Uint32Array(0);
    this.cells = new Map();
    this.focus = 0;
    this.space = h("div", { class: "space", role: "list", "aria-label": "Tiles" });
    this.scroller = h("div", { class: "scroller", onscroll: () => this.ask(), tabIndex: -1 }, this.space);
    this.note = h("p", { class: "empty", hidden: true }, "No tile meets these filters. Remove one of them on the left.");
    this.element = h("section", { class: "grid", "aria-label": "Grid of tiles" }, this.bar(), this.note, this.scroller);
    this.scroller.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.layout()).observe(this.scroller);
  }

  bar() {
    const { app } = this;
    this.counted = h("p", { class: "counted", role: "status" });
    this.mix = h("input", { type: "range", min: 0, max: 100, step: 5, id: "mix", oninput: () => app.set({ mix: +this.mix.value }, "quiet") });
    this.size = h("input", { type: "range", min: 64, max: 320, step: 32, id: "size", oninput: () => app.set({ size: +this.size.value }, "quiet") });
    this.sort = h("select", { id: "sort", onchange: () => app.set({ sort: this.sort.value }) });
    put(this.sort, h("option", { value: "" }, "order of the release"), ...orders(app.release));
    const part = (text, value) => h("button", { type: "button", class: "quiet", onclick: () => app.set({ mix: value }) }, text);
    return h("div", { class: "bar" }, this.counted,
      h("div", { class: "mix", role: "group", "aria-label": "What a tile shows" }, part("Image", 0), h("label", { for: "mix", class: "hidden" }, "From image to mask"), this.mix, part("Mask", 100)),
      h("label", {}, "Size", this.size), h("label", {}, "Sort", this.sort));
  }

  /** Show the rows of a state. */
  show(rows, state) {
    if (rows !== this.rows || state.size !== this.tile) this.shown = null;
    const isNew = rows !== this.rows;
    this.rows = rows;
    this.tile = state.size;
    this.sortBy = state.sort.replace(/^-/, "");
    this.mix.value = state.mix;
    this.size.value = state.size;
    this.sort.value = state.sort;
    this.element.style.setProperty("--mask", state.mix / 100);
    const isOther = (this.before ?? 0) !== (state.mix > 0 ? 1 : 0) + (state.mix < 100 ? 2 : 0);
    this.before = (state.mix > 0 ? 1 : 0) + (state.mix < 100 ? 2 : 0);
    this.counted.textContent = rows.length === this.app.release.rows ? `${count(rows.length)} tiles`
      : `${count(rows.length)} of ${count(this.app.release.rows)} tiles`;
    this.note.hidden = rows.length > 0;
    if (isNew) {
      this.scroller.scrollTop = 0;
      this.focus = 0;
    }
    if (isNew || isOther) this.clear();
    this.layout();
  }

  clear() {
    for (const cell of this.cells.values()) cell.remove();
    this.cells.clear();
  }

  layout() {
    const inner = this.space.clientWidth;
    if (inner < 10 || !this.tile) return;
    const columns = Math.max(1, Math.floor((inner + 8) / (this.tile + 8)));
    const side = Math.floor((inner + 8) / columns) - 8;
    if (this.shown !== `${columns}:${side}`) this.clear();
    this.shown = `${columns}:${side}`;
    this.columns = columns;
    this.side = side;
    this.step = side + 8 + (side >= 96 ? 22 : 0);
    this.space.style.height = `${Math.ceil(this.rows.length / columns) * this.step}px`;
    this.element.style.setProperty("--side", `${side}px`);
    this.ask();
  }

  /** Draw with the next frame. */
  ask() {
    this.asked ??= requestAnimationFrame(() => {
      this.asked = undefined;
      this.draw();
    });
  }

  draw() {
    const top = this.scroller.scrollTop, height = this.scroller.clientHeight;
    const first = Math.max(0, (Math.floor(top / this.step) - SPARE) * this.columns);
    const last = Math.min(this.rows.length, (Math.ceil((top + height) / this.step) + SPARE) * this.columns);
    for (const [place, cell] of this.cells) {
      if (place < first || place >= last) {
        cell.remove();
        this.cells.delete(place);
      }
    }
    for (let place = first; place < last; place++) if (!this.cells.has(place)) this.add(place);
  }

  add(place) {
    const { app } = this, { release, state } = app, row = this.rows[place];
    const image = h("img", { class: "image", alt: "", decoding: "async" });
    const mask = h("img", { class: "mask", alt: "", decoding: "async" });
    const line = h("span", { class: "line" });
    const button = h("button", { type: "button", class: "tile", tabIndex: place === this.focus ? 0 : -1, onclick: () => app.openTile(row), onfocus: () => this.focused(place) },
      h("span", { class: "frame" }, image, mask), this.side >= 96 ? line : null);
    const cell = h("div", { role: "listitem", class: "cell" }, button);
    cell.style.transform = `translate(${(place % this.columns) * (this.side + 8)}px, ${Math.floor(place / this.columns) * this.step}px)`;
    this.cells.set(place, cell);
    this.space.append(cell);
    const isWanted = () => this.cells.get(place) === cell && cell.isConnected;
    const load = (picture, element) => app.pictures.get(row, picture, isWanted).then(
      (address) => { element.src = address; element.classList.add("there"); },
      (error) => { if (error) button.classList.add("broken"); });
    if (state.mix < 100) load("image", image);
    if (state.mix > 0) load("mask", mask);
    release.id(row).then((id) => { button.setAttribute("aria-label", id); button.title = id; }, app.trouble);
    this.label(row, line);
  }

  /** A line under a tile: its largest class, and what it is sorted by. */
  label(row, line) {
    const { release } = this.app;
    const dominant = release.codeNow("dominant"), split = release.codeNow("split"), kind = release.codeNow("kind");
    if (!dominant) return;
    const values = this.sortBy ? release.numberNow(this.sortBy) : null;
    const name = release.classes[dominant[row]];
    const text = values ? figure(values[row]) : `${release.codeOf.get("kind").labels[kind[row]]} · ${release.codeOf.get("split").labels[split[row]]}`;
    put(line, h("i", { class: "swatch", colour: release.palette[dominant[row]], title: name }), h("span", {}, text));
  }

  focused(place) {
    if (place === this.focus) return;
    const old = this.cells.get(this.focus)?.firstChild;
    if (old) old.tabIndex = -1;
    this.focus = place;
    const now = this.cells.get(place)?.firstChild;
    if (now) now.tabIndex = 0;
  }

  key(event) {
    const lines = Math.max(1, Math.floor(this.scroller.clientHeight / this.step));
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns,
      PageDown: this.columns * lines, PageUp: -this.columns * lines,
      Home: -this.rows.length, End: this.rows.length }[event.key];
    if (step === undefined || !this.rows.length) return;
    event.preventDefault();
    this.moveTo(Math.min(this.rows.length - 1, Math.max(0, this.focus + step)));
  }

  moveTo(place) {
    const top = Math.floor(place / this.columns) * this.step;
    const { scrollTop, clientHeight } = this.scroller;
    if (top < scrollTop) this.scroller.scrollTop = top;
    else if (top + this.step > scrollTop + clientHeight) this.scroller.scrollTop = top + this.step - clientHeight;
    this.draw();
    this.focused(place);
    this.cells.get(place)?.firstChild.focus({ preventScroll: true });
  }
}

/** Options of what rows can be sorted by. */
function orders(release) {
  const groups = new Map();
  for (const column of release.numbers) {
    if (column.stream) continue;
    if (!groups.has(column.group)) groups.set(column.group, []);
    groups.get(column.group).push(
      h("option", { value: column.name }, `${column.title}, lowest first`),
      h("option", { value: `-${column.name}` }, `${column.title}, highest first`));
  }
  return [...groups].map(([label, options]) => h("optgroup", { label }, ...options));
}
