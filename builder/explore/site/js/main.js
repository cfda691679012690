// The page: one state, in the address; a change of it chooses rows and draws what is looked at.

import { h, put, isTyping } from "./dom.js";
import { choose, order } from "./filter.js";
import { Grid } from "./grid.js";
import { MapView } from "./map.js";
import { Panel } from "./panel.js";
import { Pictures } from "./pictures.js";
import { Release, Trouble } from "./release.js";
import { RetrievalView } from "./retrieval.js";
import { Marks, ReviewView } from "./review.js";
import { format, parse } from "./state.js";
import { takeAlong } from "./take.js";
import { TileView } from "./tile.js";
import { VersionsView } from "./versions.js";

const VIEWS = [["tiles", "Tiles"], ["map", "Map"], ["retrieval", "Retrieval"], ["versions", "Versions"], ["review", "Review"]];

class App {
  constructor(release) {
    this.release = release;
    this.trouble = (error) => trouble(error);
    this.pictures = new Pictures(release, this.trouble);
    this.marks = new Marks(release);
    this.rows = new Uint32Array(0);
    this.state = parse(location.hash);
    this.view = document.getElementById("view");
    this.grid = new Grid(this);
    this.panel = new Panel(this, document.getElementById("panel"));
    this.tile = new TileView(this);
    this.views = { tiles: this.grid, map: new MapView(this), retrieval: new RetrievalView(this), versions: new VersionsView(this), review: new ReviewView(this) };
    this.links = new Map();
    this.heading();
    window.addEventListener("popstate", () => { this.state = parse(location.hash); this.update(); });
    window.addEventListener("keydown", (event) => this.key(event));
  }

  heading() {
    const { release } = this;
    document.title = `${release.title} ${release.version} · aras explore`;
    put(document.getElementById("title"), release.title, h("small", {}, release.version));
    put(document.getElementById("views"), VIEWS.map(([name, title]) => {
      const link = h("button", { type: "button", onclick: () => this.set({ view: name, tile: "" }) }, title);
      this.links.set(name, link);
      return link;
    }));
    const panel = document.getElementById("panel");
    const toggle = h("button", { type: "button", class: "quiet filters", "aria-expanded": "false", "aria-controls": "panel", onclick: () => {
      toggle.setAttribute("aria-expanded", String(panel.classList.toggle("open")));
    } }, "Filters");
    const take = h("button", { type: "button", class: "quiet", onclick: () => takeAlong(this).catch(trouble) }, "Take along");
    const help = h("button", { type: "button", class: "quiet keys", "aria-label": "Keys", onclick: showKeys }, "?");
    put(document.getElementById("tools"), toggle, take, help);
    if (release.older) trouble(new Trouble(release.older));
  }

  /** Change the state. `quiet`: without a step back in the browser's history. */
  set(change, how = "") {
    this.state = { ...this.state, ...change };
    history[how === "quiet" ? "replaceState" : "pushState"](null, "", format(this.state));
    return this.update();
  }

  /** Note in the address what needs no drawing. */
  note(change) {
    Object.assign(this.state, change);
    history.replaceState(null, "", format(this.state));
  }

  async openTile(row) {
    try {
      await this.set({ tile: await this.release.id(row) });
    } catch (error) {
      trouble(error);
    }
  }

  /** Choose rows anew where the filters changed, then draw. */
  async update() {
    const turn = (this.turn = (this.turn ?? 0) + 1), { state, release } = this;
    try {
      await Promise.all(["kind", "split", "dominant"].map((name) => release.code(name)));
      const { kind, split, dominant, flags, n, box, q, sort } = state;
      const key = JSON.stringify([kind, split, dominant, flags, n, box, q, sort]);
      if (key !== this.key_) {
        const kept = await choose(release, state);
        const rows = await order(release, kept, state.sort);
        if (turn !== this.turn) return;
        Object.assign(this, { kept, rows, key_: key });
      }
      if (turn === this.turn) await this.draw();
    } catch (error) {
      trouble(error);
    }
  }

  async draw() {
    const { state } = this;
    this.panel.show(state, this.kept);
    const name = this.views[state.view] ? state.view : "tiles";
    for (const [other, link] of this.links) {
      if (other === name) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
    }
    document.body.dataset.view = state.tile ? "tile" : name;
    const element = state.tile ? this.tile.element : this.views[name].element;
    if (this.view.firstChild !== element) put(this.view, element);
    if (state.tile) await this.tile.show(state.tile);
    else {
      this.tile.id = null;
      await this.views[name].show(this.rows, state);
    }
    document.body.dataset.ready = String(this.turn);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event) || document.querySelector("dialog[open]")) return;
    const { state } = this;
    if (!state.tile && state.view === "review" && this.views.review.press(event.key)) return;
    const act = {
      "?": showKeys,
      "/": () => document.getElementById("search").focus(),
      m: () => this.set({ mix: state.mix === 0 ? 100 : 0 }, "quiet"),
      "+": () => this.set({ size: Math.min(320, state.size + 32) }, "quiet"),
      "-": () => this.set({ size: Math.max(64, state.size - 32) }, "quiet"),
      Escape: () => state.tile && this.set({ tile: "" }),
      ArrowLeft: () => state.tile && this.tile.go(-1),
      ArrowRight: () => state.tile && this.tile.go(1),
    }[event.key];
    if (!act) return;
    if (event.key === "/") event.preventDefault();
    act();
  }
}

const KEYS = [["arrows, Page Up, Page Down, Home, End", "move in the grid and on the map"], ["Enter, Escape", "open a tile, go back"],
  ["← →", "tile before, tile after"], ["m", "image or mask"], ["+ −", "size of tiles, zoom of the map"], ["/", "search"], ["r w u", "right, wrong, unsure (in the review)"]];

function showKeys() {
  const dialog = document.getElementById("dialog");
  put(dialog, h("h2", { id: "dialog-title" }, "Keys"), h("dl", {}, KEYS.map(([keys, does]) => [h("dt", {}, keys), h("dd", {}, does)])),
    h("div", { class: "row end" }, h("button", { type: "button", class: "strong", onclick: () => dialog.close() }, "Done")));
  dialog.showModal();
}

/** Say in one sentence what is wrong. */
function trouble(error) {
  if (!error || error.name === "AbortError") return;
  const line = document.getElementById("trouble");
  line.hidden = false;
  line.textContent = error instanceof Trouble ? error.message : `This page met an error of its own: ${error.message}`;
  if (!(error instanceof Trouble)) console.error(error);
}

window.addEventListener("unhandledrejection", (event) => trouble(event.reason));
try {
  const release = await Release.open();
  window.aras = new App(release);
  await window.aras.update();
} catch (error) {
  put(document.getElementById("view"));
  trouble(error);
}
