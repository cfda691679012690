// One tile: its pictures, composition, captions with their claims, scores and provenance.

import { h, put, count, figure, copyButton } from "./dom.js";
import { captionMarks, maskMarks } from "./review.js";

const STATES = ["", "supported", "contradicted", "unknown"];
const WORDS = { supported: "agrees with the mask", contradicted: "does not agree with the mask", unknown: "cannot be checked by the mask" };

/** A caption's pieces with their claims marked. */
export function captionText(pieces) {
  return h("p", { class: "text" }, pieces.map(([text, state]) => {
    const kind = STATES[state & 3], leaks = state & 4;
    if (!kind && !leaks) return text;
    const said = [WORDS[kind], leaks ? "gives a share of the mask away" : ""].filter(Boolean).join("; ");
    return h("mark", { class: `${kind} ${leaks ? "leaking" : ""}`, title: said }, text);
  }));
}

export const legendOfClaims = () => h("p", { class: "legend" }, "Claims: ",
  h("mark", { class: "supported" }, "supported"), " ", h("mark", { class: "contradicted" }, "contradicted"), " ",
  h("mark", { class: "unknown" }, "not checkable"), " ", h("mark", { class: "leaking" }, "leaking a number"));

/** Image and mask of a row as elements that fill when they are read. */
export function picture(app, row, name, alt) {
  const image = h("img", { alt, class: `picture ${name}` });
  app.pictures.get(row, name).then((address) => { image.src = address; }, () => image.classList.add("broken"));
  return image;
}

/** The legend of a mask: classes by share, exact. */
export function composition(release, pixels, published) {
  const total = pixels.reduce((a, b) => a + b, 0) || 1;
  const classes = release.classes.map((name, k) => ({ name, k, pixels: pixels[k] })).filter((c) => c.pixels)
    .sort((a, b) => b.pixels - a.pixels);
  return h("table", { class: "composition" }, h("caption", {}, "Composition of the mask"), h("tbody", {}, classes.map((c) => h("tr", {},
    h("th", { scope: "row" }, h("i", { class: "swatch", colour: release.palette[c.k] }), c.name),
    h("td", { class: "bar-cell" }, h("i", { class: "share", colour: release.palette[c.k] }, "")),
    h("td", {}, `${(100 * c.pixels / total).toFixed(2)} %`),
    h("td", { class: "muted" }, `${count(c.pixels)} px`),
    published.length ? h("td", { class: "muted" }, `published ${published[c.k]} %`) : null))));
}

export class TileView {
  constructor(app) {
    this.app = app;
    this.element = h("article", { class: "tile-page" });
  }

  async show(id) {
    if (this.id === id) return;
    this.id = id;
    const { app } = this, { release } = app;
    put(this.element, h("p", { class: "still", role: "status" }, "Reading the tile …"));
    const row = await release.find(id);
    if (row < 0) return put(this.element, h("p", { class: "still" }, `This release has no row ${id}. `, this.back()));
    const details = await release.details(row);
    if (this.id !== id) return;
    this.row = row;
    this.details = details;
    app.later?.();
    const facts = details.facts;
    put(this.element,
      h("div", { class: "tile-head" }, this.back(), h("h2", {}, id),
        h("div", { class: "row" }, this.step(-1), this.step(1), copyButton("Copy id", id), copyButton("Copy Python", () => this.python()))),
      h("div", { class: "tile-body" },
        h("div", { class: "side" }, this.pictures(row, details), composition(release, details.pixels, details.published), this.compare(details)),
        h("div", { class: "rest" }, this.captions(details), this.measures(details), this.alike(details), this.facts(facts))));
    for (const bar of this.element.querySelectorAll("i.share")) {
      const share = parseFloat(bar.closest("tr").children[2].textContent);
      bar.style.width = `${share}%`;
    }
  }

  back() {
    return h("button", { type: "button", class: "quiet", onclick: () => this.app.set({ tile: "" }) }, "← All tiles");
  }

  step(by) {
    return h("button", { type: "button", class: "quiet", "aria-label": by < 0 ? "Previous tile" : "Next tile", onclick: () => this.go(by) }, by < 0 ? "‹" : "›");
  }

  async go(by) {
    const { rows } = this.app, place = rows.indexOf(this.row) + by;
    if (place >= 0 && place < rows.length) this.app.openTile(rows[place]);
  }

  python() {
    const { release } = this.app;
    return `import builder; row = builder.open_release(${JSON.stringify(release.address)}).query(${JSON.stringify(`id = '${this.id.replaceAll("'", "''")}'`)})[0]  # row.image, row.mask`;
  }

  pictures(row, details) {
    const { app } = this;
    const image = picture(app, row, "image", `Image of ${details.id}`), mask = picture(app, row, "mask", `Mask of ${details.id}`);
    const stack = h("div", { class: "stack" }, image, mask);
    stack.style.setProperty("--mask", app.state.mix / 100);
    const slider = h("input", { type: "range", min: 0, max: 100, value: app.state.mix, "aria-label": "From image to mask",
      oninput: () => { stack.style.setProperty("--mask", slider.value / 100); app.set({ mix: +slider.value }, "quiet"); } });
    this.slider = slider;
    return h("div", {}, stack, h("div", { class: "mix" }, h("span", {}, "Image"), slider, h("span", {}, "Mask")), maskMarks(app, details));
  }

  /** Of a synthetic tile: the layout that it was drawn on, and the nearest real tile. */
  compare(details) {
    const { app } = this, parts = [];
    const other = (row, name, title) => h("figure", {}, h("button", { type: "button", class: "plain", onclick: () => app.openTile(row), "aria-label": title }, picture(app, row, name, title)), h("figcaption", {}, title));
    if (details.layout !== null) parts.push(other(details.layout, "mask", `Layout: mask of ${details.facts.gen_layout}, ${details.facts.gen_transform}`));
    if (details.nearest !== null) {
      const ratio = details.measures.nearest_real_ratio;
      parts.push(other(details.nearest, "image", `Nearest real tile ${details.facts.nearest_real_id}${ratio === undefined ? "" : `, ratio ${figure(ratio)}`}`));
    }
    return parts.length ? h("section", { class: "compare" }, h("h3", {}, "Beside this synthetic tile"), h("div", { class: "pair" }, parts)) : null;
  }

  captions(details) {
    if (!details.captions.length) return h("section", {}, h("h3", {}, "Captions"), h("p", { class: "muted" }, "This row has none."));
    return h("section", { class: "captions" }, h("h3", {}, "Captions"), legendOfClaims(), details.captions.map((caption) => this.caption(details, caption)));
  }

  caption(details, caption) {
    const { scores, claims } = caption;
    const said = ["supported", "contradicted", "not checkable"].map((word, i) => [word, claims.filter((claim) => claim[3] === i + 1).length]).filter(([, n]) => n);
    const table = h("table", {}, h("thead", {}, h("tr", {}, ["claim", "of", "words", "mask has"].map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, claims.map(([kind, classes, words, state, seen]) => h("tr", {}, h("td", {}, kind), h("td", {}, classes), h("td", {}, h("mark", { class: STATES[state] }, words)), h("td", {}, seen === null ? "–" : `${seen} %`)))));
    return h("div", { class: "caption", "data-stream": caption.stream },
      h("div", { class: "caption-head" }, h("h4", {}, caption.stream),
        h("span", { class: "muted" }, ["grounding", "leak", "clip_cosine"].filter((name) => scores[name] !== undefined).map((name) => `${name.replace("_", " ")} ${figure(scores[name])}`).join(" · ")),
        captionMarks(this.app, details, caption)),
      caption.error ? h("p", { class: "error" }, `No caption: ${caption.error}`) : captionText(caption.pieces),
      h("details", {}, h("summary", {}, claims.length ? `${claims.length} claims: ${said.map(([word, n]) => `${n} ${word}`).join(", ")}` : "No claim about land cover"),
        claims.length ? h("div", { class: "wide" }, table) : null,
        caption.contradictions.length ? h("ul", {}, caption.contradictions.map((line) => h("li", {}, line))) : null,
        h("dl", {}, Object.entries(scores).map(([name, value]) => [h("dt", {}, name.replaceAll("_", " ")), h("dd", {}, figure(value))]),
          ["model", "revision", "repeats"].filter((name) => caption[name]).map((name) => [h("dt", {}, name === "repeats" ? "nearly repeats" : name), h("dd", {}, caption[name])]))));
  }

  measures(details) {
    const entries = Object.entries(details.measures);
    if (!entries.length) return null;
    return h("section", {}, h("h3", {}, "Measures"), h("dl", { class: "columns" }, entries.map(([name, value]) => h("div", {}, h("dt", {}, name.replaceAll("_", " ")), h("dd", {}, figure(value))))));
  }

  alike(details) {
    if (!details.alike.length) return null;
    return h("section", {}, h("h3", {}, "Duplicates and near-duplicates"), h("div", { class: "strip" }, details.alike.map((row) =>
      h("button", { type: "button", class: "plain", onclick: () => this.app.openTile(row), "aria-label": `Row ${row}` }, picture(this.app, row, "image", "")))));
  }

  facts(facts) {
    const text = (value) => (Array.isArray(value) ? value.join(", ") : String(value));
    return h("details", { class: "facts" }, h("summary", {}, "Provenance"), h("dl", {}, Object.entries(facts).map(([name, value]) => [h("dt", {}, name), h("dd", {}, text(value))])));
  }
}
