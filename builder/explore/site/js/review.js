// Review: people mark captions and masks right, wrong or unsure; marks stay in this browser.

import { h, put, count, save } from "./dom.js";

export const MARKS = [["right", "r", "Right"], ["wrong", "w", "Wrong"], ["unsure", "u", "Unsure"]];
const MASK = ""; // in place of a stream: the mark is of the mask
const key = (id, stream) => JSON.stringify([id, stream]);

/** The marks of a release that this browser keeps. */
export class Marks {
  constructor(release) {
    this.release = release;
    this.name = `aras-review:${release.content_sha256.slice(0, 24)}`;
    this.reader = "";
    this.marks = {};
    try {
      Object.assign(this, JSON.parse(localStorage.getItem(this.name) ?? "{}"));
    } catch { /* a browser that keeps nothing: marks last as long as the page */ }
  }

  get(id, stream) {
    return this.marks[key(id, stream)]?.mark ?? "";
  }

  set(id, stream, digest, mark) {
    if (this.get(id, stream) === mark) delete this.marks[key(id, stream)];
    else this.marks[key(id, stream)] = { mark, digest, at: new Date().toISOString().slice(0, 19) + "Z" };
    this.keep();
  }

  keep() {
    try {
      localStorage.setItem(this.name, JSON.stringify({ reader: this.reader, marks: this.marks }));
    } catch { /* as above */ }
  }

  get size() {
    return Object.keys(this.marks).length;
  }

  /** The file that `aras review read` reads. */
  file() {
    const { release } = this;
    const marks = Object.entries(this.marks).map(([at, mark]) => {
      const [id, stream] = JSON.parse(at);
      return { id, stream, digest: mark.digest, mark: mark.mark, at: mark.at };
    });
    return JSON.stringify({ kind: "aras-review", format: 1, name: release.name, version: release.version,
      content_sha256: release.content_sha256, reader: this.reader, marks }, null, 1);
  }
}

/** Three buttons for a caption (or the mask) of a row. */
export function markButtons(app, id, stream, digest, after = () => {}) {
  const what = stream || "mask";
  const group = h("div", { class: "marks", role: "group", "aria-label": `Your judgement of ${what}` });
  const draw = () => put(group, MARKS.map(([mark, letter, title]) => {
    const isOn = app.marks.get(id, stream) === mark;
    return h("button", { type: "button", class: `mark ${mark}${isOn ? " on" : ""}`, "aria-pressed": String(isOn), title: `Key ${letter}`, "aria-label": `${title}: ${what}`, onclick: () => {
      app.marks.set(id, stream, digest, mark);
      draw();
      after(mark);
    } }, title);
  }));
  draw();
  return group;
}

export const captionMarks = (app, details, caption) =>
  (caption.error ? null : markButtons(app, details.id, caption.stream, caption.digest));
export const maskMarks = (app, details) =>
  h("div", { class: "row" }, h("span", { class: "muted" }, "Mask"), markButtons(app, details.id, MASK, details.digest));

export class ReviewView {
  constructor(app) {
    this.app = app;
    this.items = [];
    this.at = 0;
    const { release, marks } = app;
    this.reader = h("input", { type: "text", id: "reader", value: marks.reader, autocomplete: "name", oninput: () => { marks.reader = this.reader.value.trim(); marks.keep(); this.count(); } });
    this.what = h("select", { id: "what", onchange: () => this.fromSelection() }, release.streams.map((stream) => h("option", { value: stream }, `captions of ${stream}`)), h("option", { value: MASK }, "masks"));
    const input = h("input", { type: "file", accept: ".json,application/json", class: "hidden", id: "sample", onchange: () => this.load(input.files[0]) });
    this.saveButton = h("button", { type: "button", class: "strong", onclick: () => save(`review-${(marks.reader || "reader").replace(/[^\w-]+/g, "-")}.json`, marks.file(), "application/json") }, "Save marks");
    this.said = h("p", { class: "counted", role: "status" });
    this.card = h("div", { class: "review-card" });
    this.element = h("section", { class: "page", "aria-label": "Review" },
      h("div", { class: "bar" }, h("label", {}, "Reader", this.reader), h("label", {}, "Judge", this.what),
        h("label", { class: "quiet file", for: "sample" }, "Open a sample …"), input, this.said, this.saveButton),
      this.card,
      h("p", { class: "muted help" }, "Keys: r right, w wrong, u unsure, ← → to go. Marks stay in this browser until you save them as a file; aras review draw makes a sample for several readers, aras review read counts their files."));
    this.element.addEventListener("keydown", () => {});
  }

  async show(rows) {
    this.rows = rows;
    if (!this.sample) await this.fromSelection();
    else await this.draw();
  }

  /** The captions of the chosen rows, or their masks. */
  async fromSelection() {
    this.sample = null;
    const rows = this.rows.slice(0, 2000), ids = await this.app.release.ids(rows), stream = this.what.value;
    this.items = ids.map((id) => ({ id, stream }));
    this.at = Math.max(0, this.items.findIndex((item) => !this.app.marks.get(item.id, item.stream)));
    await this.draw();
  }

  async load(file) {
    if (!file) return;
    try {
      const sample = JSON.parse(await file.text());
      if (sample.kind !== "aras-review-sample") throw new Error("not a file that aras review draw writes");
      if (sample.content_sha256 !== this.app.release.content_sha256) throw new Error("it is of another release");
      this.sample = sample;
      this.items = sample.items;
      this.at = Math.max(0, this.items.findIndex((item) => !this.app.marks.get(item.id, item.stream)));
      await this.draw();
    } catch (error) {
      this.said.textContent = `${file.name}: ${error.message}.`;
    }
  }

  count() {
    const n = this.items.filter((item) => this.app.marks.get(item.id, item.stream)).length;
    this.said.textContent = `${count(n)} of ${count(this.items.length)} marked${this.sample ? " in the sample" : ""}`;
    this.saveButton.disabled = !this.app.marks.size || !this.app.marks.reader;
    this.saveButton.title = this.app.marks.reader ? "" : "Say who you are first";
  }

  async draw() {
    this.count();
    const item = this.items[this.at], { app } = this, turn = (this.turn = (this.turn ?? 0) + 1);
    if (!item) return put(this.card, h("p", { class: "still" }, "No tile is chosen: remove a filter, or open a sample."));
    const row = await app.release.find(item.id);
    if (row < 0) return put(this.card, h("p", { class: "still" }, `This release has no row ${item.id}.`));
    const details = await app.release.details(row);
    if (turn !== this.turn) return;
    const caption = details.captions.find((other) => other.stream === item.stream);
    this.digest = item.stream === MASK ? details.digest : caption?.digest;
    const stack = h("div", { class: "stack" }, ["image", "mask"].map((name) => {
      const image = h("img", { class: name, alt: `${name} of ${item.id}` });
      app.pictures.get(row, name).then((address) => { image.src = address; }, () => {});
      return image;
    }));
    const mix = (value) => stack.style.setProperty("--mask", value / 100);
    mix(item.stream === MASK ? 50 : 0);
    const slider = h("input", { type: "range", min: 0, max: 100, value: item.stream === MASK ? 50 : 0, "aria-label": "From image to mask", oninput: () => mix(slider.value) });
    const text = item.stream === MASK ? h("p", { class: "text" }, "Does the mask show what the image shows?")
      : caption && !caption.error ? h("p", { class: "text" }, caption.pieces.map(([part]) => part).join("")) : h("p", { class: "muted" }, "This row has no caption of that stream; go on.");
    put(this.card, h("div", { class: "side" }, stack, h("div", { class: "mix" }, h("span", {}, "Image"), slider, h("span", {}, "Mask"))),
      h("div", { class: "rest" }, h("p", { class: "muted" }, `${this.at + 1} of ${this.items.length} · ${item.id} · ${item.stream || "mask"}`), text,
        this.digest ? markButtons(app, item.id, item.stream, this.digest, () => this.go(1)) : null,
        h("div", { class: "row" }, h("button", { type: "button", class: "quiet", onclick: () => this.go(-1) }, "← Back"), h("button", { type: "button", class: "quiet", onclick: () => this.go(1) }, "Next →"), h("button", { type: "button", class: "quiet", onclick: () => app.openTile(row) }, "Open the tile"))));
  }

  go(by) {
    this.at = Math.max(0, Math.min(this.items.length - 1, this.at + by));
    return this.draw();
  }

  /** A key that was pressed in this view. */
  press(pressed) {
    const mark = MARKS.find(([, letter]) => letter === pressed), item = this.items[this.at];
    if (mark && item && this.digest) {
      if (this.app.marks.get(item.id, item.stream) !== mark[0]) this.app.marks.set(item.id, item.stream, this.digest, mark[0]);
      this.go(1);
    } else if (pressed === "ArrowLeft") this.go(-1);
    else if (pressed === "ArrowRight") this.go(1);
    else return false;
    return true;
  }
}
