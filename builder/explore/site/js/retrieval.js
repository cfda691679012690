// Retrieval in the browser, from the vectors of the release: nearest images and captions, ranks.

import { h, put, count, figure } from "./dom.js";
import { readRange } from "./release.js";

const SHOWN = 24;
const SAMPLE = 1_000; // queries that are ranked for hits and misses
const SCALE = 32_767 ** 2;

export class RetrievalView {
  constructor(app) {
    this.app = app;
    const { release } = app;
    this.splits = h("select", { onchange: () => this.load().catch(app.trouble) }, release.vectors.map((v) => h("option", { value: v.split }, `${v.split} · ${count(v.images)} images`)));
    this.streams = h("select", { onchange: () => app.set({ stream: this.streams.value }, "quiet") }, release.streams.map((stream) => h("option", { value: stream }, stream)));
    this.query = h("input", { type: "text", id: "query", placeholder: "ROW or ROW#STREAM", list: "queries", onchange: () => app.set({ query: this.query.value.trim() }) });
    this.result = h("div", { class: "result" });
    this.bench = h("div", { class: "bench" });
    this.rankButton = h("button", { type: "button", class: "quiet", onclick: () => this.rank().catch(app.trouble) }, "Hits and misses");
    this.element = h("section", { class: "page retrieval", "aria-label": "Retrieval" });
    const usual = release.vectors.find((v) => v.split === "test") ?? release.vectors[0];
    if (usual) this.splits.value = usual.split;
    put(this.element, release.vectors.length
      ? [h("div", { class: "bar" }, h("label", {}, "Split", this.splits), h("label", {}, "Captions", this.streams), h("label", {}, "Query", this.query),
        h("button", { type: "button", class: "quiet", onclick: () => this.random() }, "Another"), this.rankButton), this.bench, this.result,
        h("p", { class: "muted help" }, "All images of the split compete here; aras bench retrieval also leaves rows near to train tiles out and gives intervals. Products are of 16-bit vectors: nearer than 0.0001 they may tie otherwise.")]
      : h("p", { class: "still" }, "This release has no embeddings: [bench] embeddings in its recipe puts the vectors of a model into it."));
  }

  /** The vectors of the chosen split. */
  async load() {
    const { release } = this.app, about = release.vectors.find((v) => v.split === this.splits.value);
    if (this.about === about) return;
    put(this.result, h("p", { class: "still", role: "status" }, "Reading the vectors …"));
    const name = `vectors-${about.split}`, n = about.images + about.captions;
    const [raw, rows, streams] = await Promise.all([
      readRange(new URL(`${release.folder}${name}.bin`, document.baseURI).href, 0, 2 * n * about.width, `${name}.bin`),
      release.file(`${name}-rows.bin`, (bytes) => new Uint32Array(bytes)),
      release.file(`${name}-streams.bin`, (bytes) => new Uint8Array(bytes))]);
    Object.assign(this, { about, vectors: new Int16Array(raw), rowsOf: rows, streamOf: streams });
    this.imageOf = new Map(Array.from(rows.subarray(0, about.images), (row, i) => [row, i]));
    put(this.bench);
    put(this.result);
  }

  async show(rows, state) {
    if (!this.app.release.vectors.length) return;
    await this.load();
    if (state.stream) this.streams.value = state.stream;
    if (document.activeElement !== this.query) this.query.value = state.query;
    if (!state.query) return this.random();
    await this.answer(state.query);
  }

  async random() {
    await this.load();
    const own = this.captionsOf(this.streams.value);
    const pick = own.length ? own[Math.floor(Math.random() * own.length)] : Math.floor(Math.random() * this.about.images);
    const id = await this.app.release.id(this.rowsOf[pick]);
    return this.app.set({ query: pick < this.about.images ? id : `${id}#${this.streams.value}` }, "quiet");
  }

  /** Positions of the captions of a stream. */
  captionsOf(stream) {
    const number = this.app.release.streams.indexOf(stream), { images, captions } = this.about, out = [];
    for (let i = 0; i < captions; i++) if (this.streamOf[i] === number) out.push(images + i);
    return out;
  }

  /** Products of a vector with others. */
  products(query, others) {
    const { width } = this.about, { vectors } = this, out = new Float64Array(others.length);
    for (let k = 0; k < others.length; k++) {
      let sum = 0;
      const a = query * width, b = others[k] * width;
      for (let j = 0; j < width; j++) sum += vectors[a + j] * vectors[b + j];
      out[k] = sum / SCALE;
    }
    return out;
  }

  async answer(query) {
    const { release } = this.app, [id, stream] = query.includes("#") ? [query.slice(0, query.lastIndexOf("#")), query.slice(query.lastIndexOf("#") + 1)] : [query, ""];
    const row = await release.find(id), image = this.imageOf.get(row);
    const number = release.streams.indexOf(stream);
    let at = image;
    if (stream) at = this.captionsOf(stream).find((i) => this.rowsOf[i] === row);
    if (row < 0 || at === undefined || (stream && number < 0)) return put(this.result, h("p", { class: "still" }, `${query} has no vector in the split ${this.about.split}.`));
    const started = performance.now();
    const images = Array.from({ length: this.about.images }, (_, i) => i), captions = this.captionsOf(this.streams.value);
    const ofImages = this.products(at, images), ofCaptions = this.products(at, captions);
    const spent = performance.now() - started;
    const best = (products, positions) => positions.map((p, i) => [p, products[i]]).filter(([p]) => p !== at).sort((a, b) => b[1] - a[1]).slice(0, SHOWN);
    const rank = image === undefined ? null : 1 + ofImages.reduce((n, p, i) => n + (i !== image && p > ofImages[image] ? 1 : 0), 0);
    const details = await release.details(row);
    const text = details.captions.find((c) => c.stream === stream)?.pieces.map(([part]) => part).join("");
    const nearest = best(ofCaptions, captions);
    const texts = await Promise.all(nearest.slice(0, 8).map(async ([p]) => [await release.details(this.rowsOf[p]), p]));
    put(this.result,
      h("div", { class: "asked" }, this.tile(row, "", "query"), h("div", {}, h("h2", {}, query), text ? h("p", { class: "text" }, text) : null,
        stream && rank !== null ? h("p", { class: rank === 1 ? "hit" : "muted" }, `Its own image is at rank ${count(rank)} of ${count(this.about.images)}${rank <= 10 ? ": a hit at 10" : ": a miss at 10"}.`) : null,
        h("p", { class: "muted" }, `${count(this.about.images + captions.length)} vectors compared in ${spent.toFixed(0)} ms`))),
      h("h3", {}, "Nearest images"), h("div", { class: "tiles" }, best(ofImages, images).map(([p, product]) => this.tile(this.rowsOf[p], figure(product), this.rowsOf[p] === row ? "own" : ""))),
      h("h3", {}, `Nearest captions of ${this.streams.value}`), h("ol", { class: "texts" }, texts.map(([other, p], i) => h("li", { class: this.rowsOf[p] === row ? "own" : "" },
        h("button", { type: "button", class: "link", onclick: () => this.app.set({ query: `${other.id}#${this.streams.value}` }) }, other.id), h("small", {}, figure(nearest[i][1])),
        h("span", {}, other.captions.find((c) => c.stream === this.streams.value)?.pieces.map(([part]) => part).join("") ?? "")))));
  }

  tile(row, said, kind) {
    const { app } = this, image = h("img", { alt: "", class: "picture" });
    app.pictures.get(row, "image").then((address) => { image.src = address; }, () => {});
    const button = h("button", { type: "button", class: `plain ${kind}`, onclick: async () => app.set({ query: await app.release.id(row) }) }, image, said ? h("small", {}, said) : null);
    app.release.id(row).then((id) => { button.setAttribute("aria-label", `${id} ${said}`); button.title = id; }, app.trouble);
    return button;
  }

  /** Ranks of the own image of captions: recalls, and the worst misses. */
  async rank() {
    await this.load();
    const own = this.captionsOf(this.streams.value).filter((i) => this.imageOf.has(this.rowsOf[i]));
    const step = Math.max(1, own.length / SAMPLE), queries = [];
    for (let i = 0; i < own.length; i += step) queries.push(own[Math.floor(i)]);
    const images = Array.from({ length: this.about.images }, (_, i) => i), ranks = [];
    for (const [i, query] of queries.entries()) {
      const products = this.products(query, images), mine = products[this.imageOf.get(this.rowsOf[query])];
      let rank = 1;
      for (const product of products) if (product > mine) rank++;
      ranks.push([rank, query]);
      if (i % 20 === 19) {
        put(this.bench, h("p", { class: "muted", role: "status" }, `${i + 1} of ${queries.length} queries …`));
        await new Promise((done) => setTimeout(done));
      }
    }
    ranks.sort((a, b) => b[0] - a[0]);
    const at = (k) => (100 * ranks.filter(([rank]) => rank <= k).length) / Math.max(1, ranks.length);
    const misses = ranks.filter(([rank]) => rank > 1).slice(0, 12);
    const ids = await this.app.release.ids(misses.map(([, q]) => this.rowsOf[q]));
    put(this.bench, h("p", {}, `Text to image, ${this.streams.value}, ${count(ranks.length)} queries${step > 1 ? ` (of ${count(own.length)})` : ""}: `,
      [1, 5, 10].map((k) => h("strong", { "data-recall": k }, `R@${k} ${at(k).toFixed(1)} % `))),
      h("p", { class: "row" }, h("span", { class: "muted" }, "Worst misses:"), ids.map((id, i) => h("button", { type: "button", class: "quiet", onclick: () => this.app.set({ query: `${id}#${this.streams.value}` }) }, `${id} · rank ${count(misses[i][0])}`))));
  }
}
