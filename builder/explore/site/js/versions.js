// Two versions: rows that were added, removed or changed, as pictures.

import { h, put, count } from "./dom.js";

const PAGE = 60;

export class VersionsView {
  constructor(app) {
    this.app = app;
    this.list = h("div", { class: "versions-list" });
    this.more = h("button", { type: "button", class: "quiet", onclick: () => this.add() }, "More");
    this.chips = h("div", { class: "chips", role: "group", "aria-label": "Kind of change" });
    this.element = h("section", { class: "page versions", "aria-label": "Two versions" });
  }

  async show(rows, state) {
    const { release } = this.app, { changes } = release;
    if (!changes) {
      return put(this.element, h("p", { class: "still" }, "This page shows one version. ", h("code", {}, "aras explore NEW --against OLD"), " shows what changed between two."));
    }
    this.all ??= await release.json("changes.bin");
    const kinds = [["added", changes.counts.added], ["removed", changes.counts.removed], ["changed", changes.counts.changed]];
    const columns = new Map();
    for (const row of this.all.rows) for (const name of row.columns) columns.set(name, (columns.get(name) ?? 0) + 1);
    const chip = (name, n) => h("button", { type: "button", class: `chip${state.change === name ? " on" : ""}`, "aria-pressed": String(state.change === name), onclick: () => this.app.set({ change: state.change === name ? "" : name }) }, name, h("small", {}, count(n)));
    put(this.chips, kinds.filter(([, n]) => n).map(([name, n]) => chip(name, n)), [...columns].map(([name, n]) => chip(name, n)));
    const [, of] = kinds.find(([name]) => name === state.change) ?? [];
    this.chosen = this.all.rows.filter((row) => !state.change || row.what === state.change || row.columns.includes(state.change));
    this.at = 0;
    put(this.list);
    put(this.element, h("h2", {}, `From ${changes.version} to ${release.version}`),
      h("p", { class: "muted" }, kinds.map(([name, n]) => `${count(n)} ${name}`).join(", "), of > this.chosen.length ? `; the first ${count(this.chosen.length)} are here` : ""),
      this.chips, this.chosen.length ? this.list : h("p", { class: "still" }, "Nothing differs."), this.more);
    this.add();
  }

  add() {
    const next = this.chosen.slice(this.at, this.at + PAGE);
    this.at += next.length;
    this.more.hidden = this.at >= this.chosen.length;
    this.list.append(...next.map((row) => this.card(row)));
  }

  card(change) {
    const { app } = this, picture = change.columns.includes("mask") && !change.columns.includes("image") ? "mask" : "image";
    const old = change.old ? this.before(change, picture) : null;
    const now = change.what === "removed" ? null : h("img", { class: `picture ${picture}`, alt: `${picture} now` });
    const texts = h("div", {});
    if (now) {
      app.release.find(change.id).then(async (row) => {
        app.pictures.get(row, picture).then((address) => { now.src = address; }, () => {});
        if (change.columns.includes("captions")) {
          const details = await app.release.details(row);
          put(texts, details.captions.map((caption) => [caption.stream, caption.pieces.map(([part]) => part).join(""), change.old?.captions?.[caption.stream] ?? ""]).filter(([, a, b]) => a !== b)
            .map(([stream, a, b]) => h("div", { class: "texts-pair" }, h("h3", {}, stream), h("p", {}, h("del", {}, b)), h("p", {}, h("ins", {}, a)))));
        }
      }, app.trouble);
    }
    const side = (image, title) => h("figure", {}, image ?? h("div", { class: "picture none" }), h("figcaption", {}, title));
    return h("article", { class: `change ${change.what}` },
      h("div", { class: "pair" }, side(old, change.what === "added" ? "not there before" : app.release.changes.version), side(now, change.what === "removed" ? "removed" : app.release.version)),
      h("p", {}, change.what === "removed" ? h("span", {}, change.id) : h("button", { type: "button", class: "link", onclick: () => app.set({ tile: change.id }) }, change.id)),
      h("p", { class: "muted" }, change.what === "changed" ? `changed: ${change.columns.join(", ")}` : change.what), texts);
  }

  before(change, picture) {
    const { app } = this, image = h("img", { class: `picture ${picture}`, alt: `${picture} before` });
    const { shard } = change.old, start = change.old[`${picture}_offset`], size = change.old[`${picture}_size`];
    if (!shard || start === null || start === undefined || !app.release.whereOld) return h("div", { class: "picture none" });
    app.pictures.at({ address: app.release.whereOld + encodeURI(shard), file: shard, start, size }).then((address) => { image.src = address; }, app.trouble);
    return image;
  }
}
