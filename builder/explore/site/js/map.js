// Footprints on a map: no token, no tile server; coastlines come with the page.

import { h, put, count, figure } from "./dom.js";

const BASE = "https://tile.openstreetmap.org"; // only when the reader switches it on
const RAMP = [[253, 231, 159], [144, 201, 158], [50, 150, 160], [40, 90, 145], [58, 26, 94]];

const mercator = (lat) => 0.5 - Math.log(Math.tan(Math.PI / 4 + (Math.max(-85, Math.min(85, lat)) * Math.PI) / 360)) / (2 * Math.PI);
const latitude = (y) => (360 / Math.PI) * Math.atan(Math.exp((0.5 - y) * 2 * Math.PI)) - 90;

export class MapView {
  constructor(app) {
    this.app = app;
    this.canvas = h("canvas", { tabIndex: 0, role: "img" });
    this.colour = h("select", { id: "map-colour", onchange: () => app.set({ colour: this.colour.value }, "quiet") },
      h("option", { value: "split" }, "split"), h("option", { value: "kind" }, "kind"), h("option", { value: "dominant" }, "largest class"),
      app.release.numbers.filter((column) => !column.stream).map((column) => h("option", { value: column.name }, `${column.group.toLowerCase()}: ${column.title}`)));
    this.blocks = h("input", { type: "checkbox", onchange: () => this.ask() });
    this.online = h("input", { type: "checkbox", onchange: () => this.ask() });
    this.area = h("button", { type: "button", class: "quiet", "aria-pressed": "false", onclick: () => this.choosing(!this.isChoosing) }, "Choose an area");
    this.legend = h("div", { class: "map-legend" });
    this.status = h("p", { class: "counted", role: "status" });
    this.sides = ["West", "South", "East", "North"].map((name) => h("input", { type: "number", step: "any", placeholder: name, "aria-label": `${name} in degrees`, onchange: () => this.typed() }));
    const zoom = (text, label, by) => h("button", { type: "button", class: "quiet", "aria-label": label, onclick: () => this.zoom(by) }, text);
    this.credit = h("p", { class: "credit" });
    this.element = h("section", { class: "map", "aria-label": "Map" },
      h("div", { class: "bar" }, this.status, h("label", {}, "Colour by", this.colour), h("label", {}, this.blocks, "Blocks of the split"), h("label", {}, this.online, "Online base map"),
        h("div", { class: "row" }, this.area, h("button", { type: "button", class: "quiet", onclick: () => app.set({ view: "tiles" }) }, "See in the grid"))),
      h("div", { class: "map-frame" }, this.canvas, h("div", { class: "zoom" }, zoom("+", "Zoom in", 2), zoom("−", "Zoom out", 0.5), zoom("⤢", "Fit", 0)), this.legend, this.credit),
      h("div", { class: "bar sides" }, h("span", { class: "muted" }, "Area in degrees"), this.sides));
    this.images = new Map();
    this.pointers = new Map();
    for (const kind of ["down", "move", "up", "cancel"]) this.canvas.addEventListener(`pointer${kind}`, (event) => this[kind === "cancel" ? "up" : kind](event));
    this.canvas.addEventListener("wheel", (event) => { event.preventDefault(); this.zoom(Math.exp(-event.deltaY / 400), event); }, { passive: false });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.ask()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.ask());
  }

  async show(rows, state) {
    const { release } = this.app;
    this.rows = rows;
    if (!release.on_map) {
      this.status.textContent = "No row of this release says where it is.";
      return;
    }
    if (!this.x) {
      const [lon, lat, wide, high, coast] = await Promise.all([...["longitude", "latitude", "wide", "high"].map((name) => release.floats(name)), fetch("coast.json").then((answer) => answer.json())]);
      this.lon = lon;
      this.lat = lat;
      this.wide = wide;
      this.high = high;
      this.coast = coast;
      this.x = Float64Array.from(lon, (v) => (v + 180) / 360);
      this.y = Float64Array.from(lat, mercator);
    }
    const placed = rows.reduce((n, row) => n + (Number.isNaN(this.x[row]) ? 0 : 1), 0);
    this.status.textContent = `${count(placed)} tiles with a place`;
    this.canvas.setAttribute("aria-label", `Map of ${count(placed)} tiles; arrow keys move it, + and − zoom`);
    this.colour.value = this.colourBy = state.colour || "split";
    this.box = state.box;
    this.sides.forEach((side, i) => { if (document.activeElement !== side) side.value = state.box ? +state.box[i].toFixed(4) : ""; });
    await this.paint();
    if (!this.at && state.map) this.at = this.parse(state.map);
    this.ask();
  }

  parse(text) {
    const [lon, lat, zoom] = text.split(",").map(Number);
    return [lon, lat, zoom].every(Number.isFinite) ? { x: (lon + 180) / 360, y: mercator(lat), scale: 2 ** zoom } : null;
  }

  /** Colours of rows by what is asked, and the legend. */
  async paint() {
    const { release } = this.app, by = this.colourBy, code = release.codeOf.get(by);
    if (code) {
      const values = await release.code(by);
      const colours = code.labels.map((label, k) => hex(by === "dominant" ? release.palette[k] : release.colours[label] ?? "#999999"));
      this.colourOf = (row) => colours[values[row]];
      put(this.legend, code.labels.map((label, k) => code.counts[k] ? h("span", {}, h("i", { class: "swatch", colour: `rgb(${colours[k]})` }), label) : null));
      return;
    }
    const column = release.numberOf.get(by), values = await release.number(by), span = column.high - column.low || 1;
    this.colourOf = (row) => (Number.isNaN(values[row]) ? [160, 160, 160] : ramp((values[row] - column.low) / span));
    put(this.legend, h("span", {}, column.title), h("span", {}, figure(column.low)), h("i", { class: "ramp" }), h("span", {}, figure(column.high)));
  }

  fit() {
    let west = 1, east = 0, north = 1, south = 0;
    const rows = this.rows.length ? this.rows : this.x.keys();
    for (const row of rows) {
      if (Number.isNaN(this.x[row])) continue;
      west = Math.min(west, this.x[row]); east = Math.max(east, this.x[row]);
      north = Math.min(north, this.y[row]); south = Math.max(south, this.y[row]);
    }
    if (east < west) [west, east, north, south] = [0, 1, 0, 1];
    const pad = Math.max(east - west, south - north, 1e-5) * 0.08;
    const scale = Math.min(this.width / (east - west + 2 * pad), this.height / (south - north + 2 * pad));
    this.at = { x: (west + east) / 2, y: (north + south) / 2, scale };
  }

  ask() {
    this.asked ??= requestAnimationFrame(() => {
      this.asked = undefined;
      if (this.x && this.canvas.isConnected) this.draw();
    });
  }

  draw() {
    const { canvas } = this, box = canvas.getBoundingClientRect(), dense = devicePixelRatio || 1;
    if (box.width < 10) return;
    if (canvas.width !== Math.round(box.width * dense) || canvas.height !== Math.round(box.height * dense)) {
      canvas.width = Math.round(box.width * dense);
      canvas.height = Math.round(box.height * dense);
    }
    this.width = box.width;
    this.height = box.height;
    if (!this.at) this.fit();
    const { x, y, scale } = this.at;
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.setTransform(dense, 0, 0, dense, 0, 0);
    const style = getComputedStyle(document.documentElement), tone = (name) => style.getPropertyValue(name).trim();
    pen.fillStyle = tone("--paper");
    pen.fillRect(0, 0, this.width, this.height);
    const left = this.width / 2 - x * scale, top = this.height / 2 - y * scale;
    this.drawLand(pen, left, top, scale, tone);
    this.credit.textContent = this.online.checked ? "© OpenStreetMap contributors" : "Coastlines: Natural Earth 1:110m";
    if (this.online.checked) this.drawBase(pen, left, top, scale);
    if (this.blocks.checked) this.drawBlocks(pen, left, top, scale);
    this.drawTiles(pen, left, top, scale, dense);
    const area = this.dragged ?? this.box;
    if (area) {
      const [west, south, east, north] = area;
      const x0 = left + ((west + 180) / 360) * scale, x1 = left + ((east + 180) / 360) * scale;
      const y0 = top + mercator(north) * scale, y1 = top + mercator(south) * scale;
      pen.strokeStyle = tone("--accent");
      pen.lineWidth = 2;
      pen.setLineDash([6, 4]);
      pen.strokeRect(x0, y0, x1 - x0, y1 - y0);
      pen.setLineDash([]);
    }
  }

  drawLand(pen, left, top, scale, tone) {
    pen.beginPath();
    for (const ring of this.coast) {
      for (let i = 0; i < ring.length; i += 2) {
        const px = left + ((ring[i] / 100 + 180) / 360) * scale, py = top + mercator(ring[i + 1] / 100) * scale;
        if (i) pen.lineTo(px, py); else pen.moveTo(px, py);
      }
      pen.closePath();
    }
    pen.fillStyle = tone("--land");
    pen.fill("evenodd");
    pen.strokeStyle = tone("--coast");
    pen.lineWidth = 1;
    pen.stroke();
  }

  drawBase(pen, left, top, scale) {
    const zoom = Math.max(0, Math.min(18, Math.round(Math.log2(scale / 256)))), n = 2 ** zoom, side = scale / n;
    for (let i = Math.max(0, Math.floor(-left / side)); i < n && left + i * side < this.width; i++) {
      for (let j = Math.max(0, Math.floor(-top / side)); j < n && top + j * side < this.height; j++) {
        const key = `${zoom}/${i}/${j}`;
        if (!this.images.has(key)) {
          const image = new Image();
          image.referrerPolicy = "origin";
          image.onload = () => this.ask();
          image.src = `${BASE}/${key}.png`;
          this.images.set(key, image);
        }
        const image = this.images.get(key);
        if (image.complete && image.naturalWidth) pen.drawImage(image, left + i * side, top + j * side, side, side);
      }
    }
  }

  drawBlocks(pen, left, top, scale) {
    const { release } = this.app, codes = release.loaded.get("code-block.bin");
    if (!codes) {
      release.file("code-block.bin", (bytes) => new Uint32Array(bytes)).then(() => this.ask(), this.app.trouble);
      return;
    }
    if (!this.extents) {
      this.extents = new Map();
      const splits = release.codeNow("split");
      for (let row = 0; row < codes.length; row++) {
        if (!codes[row] || Number.isNaN(this.x[row])) continue;
        const [w, e] = [this.lon[row] - this.wide[row] / 2, this.lon[row] + this.wide[row] / 2];
        const [s, n] = [this.lat[row] - this.high[row] / 2, this.lat[row] + this.high[row] / 2];
        const known = this.extents.get(codes[row]);
        if (!known) this.extents.set(codes[row], [w, s, e, n, splits[row]]);
        else { known[0] = Math.min(known[0], w); known[1] = Math.min(known[1], s); known[2] = Math.max(known[2], e); known[3] = Math.max(known[3], n); }
      }
    }
    const labels = release.codeOf.get("split").labels;
    pen.lineWidth = 1.5;
    for (const [w, s, e, n, split] of this.extents.values()) {
      const x0 = left + ((w + 180) / 360) * scale, x1 = left + ((e + 180) / 360) * scale, y0 = top + mercator(n) * scale, y1 = top + mercator(s) * scale;
      if (x1 < 0 || y1 < 0 || x0 > this.width || y0 > this.height) continue;
      pen.strokeStyle = release.colours[labels[split]] ?? "#999999";
      pen.strokeRect(x0 - 1, y0 - 1, x1 - x0 + 2, y1 - y0 + 2);
    }
  }

  drawTiles(pen, left, top, scale, dense) {
    const first = this.rows.find((row) => !Number.isNaN(this.x[row]));
    const side = first === undefined ? 0 : (this.wide[first] / 360) * scale;
    if (side > 3) {
      pen.globalAlpha = this.online.checked ? 0.55 : 0.8;
      for (const row of this.rows) {
        const w = (this.wide[row] / 360) * scale, x0 = left + this.x[row] * scale - w / 2;
        const y0 = top + mercator(this.lat[row] + this.high[row] / 2) * scale;
        if (!(x0 < this.width && x0 + w > 0 && y0 < this.height && y0 + w * 2 > 0)) continue;
        const tall = top + mercator(this.lat[row] - this.high[row] / 2) * scale - y0;
        pen.fillStyle = `rgb(${this.colourOf(row)})`;
        pen.fillRect(x0, y0, Math.max(1, w - 1), Math.max(1, tall - 1));
      }
      pen.globalAlpha = 1;
      return;
    }
    const wide = pen.canvas.width, tall = pen.canvas.height, data = pen.getImageData(0, 0, wide, tall), pixels = data.data;
    const size = Math.max(2, Math.round(Math.max(side, 1.5) * dense));
    for (const row of this.rows) {
      const px = Math.round((left + this.x[row] * scale) * dense) - (size >> 1), py = Math.round((top + this.y[row] * scale) * dense) - (size >> 1);
      if (!(px >= 0 && py >= 0 && px + size < wide && py + size < tall)) continue;
      const [r, g, b] = this.colourOf(row);
      for (let j = 0; j < size; j++) for (let i = 0; i < size; i++) {
        const at = 4 * ((py + j) * wide + px + i);
        pixels[at] = r; pixels[at + 1] = g; pixels[at + 2] = b; pixels[at + 3] = 255;
      }
    }
    pen.putImageData(data, 0, 0);
  }

  zoom(by, event) {
    if (!this.at) return;
    if (by === 0) this.fit();
    else {
      const box = this.canvas.getBoundingClientRect();
      const dx = event ? event.clientX - box.left - this.width / 2 : 0, dy = event ? event.clientY - box.top - this.height / 2 : 0;
      const scale = Math.max(this.width / 2, Math.min(2 ** 30, this.at.scale * by)), k = 1 / this.at.scale - 1 / scale;
      this.at = { x: this.at.x + dx * k, y: this.at.y + dy * k, scale };
    }
    this.moved();
  }

  moved() {
    this.ask();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      const { x, y, scale } = this.at;
      this.app.note({ map: [(x * 360 - 180).toFixed(5), latitude(y).toFixed(5), Math.log2(scale).toFixed(2)].join(",") });
    }, 300);
  }

  choosing(on) {
    this.isChoosing = on;
    this.area.setAttribute("aria-pressed", String(on));
    this.area.classList.toggle("strong", on);
    this.canvas.style.cursor = on ? "crosshair" : "grab";
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect(), { x, y, scale } = this.at;
    return [(x + (event.clientX - box.left - this.width / 2) / scale) * 360 - 180, latitude(y + (event.clientY - box.top - this.height / 2) / scale)];
  }

  down(event) {
    if (!this.at) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, event);
    this.pressed = { event, from: this.place(event), is: false };
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    this.pointers.set(event.pointerId, event);
    const dx = event.clientX - before.clientX, dy = event.clientY - before.clientY;
    if (Math.hypot(event.clientX - this.pressed.event.clientX, event.clientY - this.pressed.event.clientY) > 4) this.pressed.is = true;
    if (this.pointers.size > 1) {
      const [a, b] = [...this.pointers.values()], other = a.pointerId === event.pointerId ? b : a;
      const far = (e) => Math.hypot(e.clientX - other.clientX, e.clientY - other.clientY);
      this.zoom(far(event) / Math.max(1, far(before)), other);
    } else if (this.isChoosing || event.shiftKey) {
      const [a, b] = [this.pressed.from, this.place(event)];
      this.dragged = [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])];
      this.ask();
    } else {
      this.at.x -= dx / this.at.scale;
      this.at.y -= dy / this.at.scale;
      this.moved();
    }
  }

  up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    if (this.dragged) {
      const box = this.dragged;
      this.dragged = null;
      this.choosing(false);
      this.app.set({ box });
    } else if (!this.pressed.is) this.open(event);
  }

  /** The page of the footprint at a place. */
  open(event) {
    const [lon, lat] = this.place(event), near = (8 / this.at.scale) * 360;
    let best = -1, least = Infinity;
    for (const row of this.rows) {
      const dx = Math.abs(this.lon[row] - lon), dy = Math.abs(this.lat[row] - lat);
      if (dx <= Math.max(this.wide[row] / 2, near) && dy <= Math.max(this.high[row] / 2, near) && dx + dy < least) [best, least] = [row, dx + dy];
    }
    if (best >= 0) this.app.openTile(best);
  }

  typed() {
    const box = this.sides.map((side) => parseFloat(side.value));
    if (box.every(Number.isFinite)) this.app.set({ box });
    else if (box.every(Number.isNaN)) this.app.set({ box: null });
  }

  key(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (step) {
      event.preventDefault();
      event.stopPropagation();
      this.at.x += (step[0] * 80) / this.at.scale;
      this.at.y += (step[1] * 80) / this.at.scale;
      this.moved();
    } else if (event.key === "+" || event.key === "-") {
      event.stopPropagation();
      this.zoom(event.key === "+" ? 1.5 : 1 / 1.5);
    }
  }
}

function hex(text) {
  return [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16));
}

function ramp(share) {
  const at = Math.max(0, Math.min(0.9999, share)) * (RAMP.length - 1), i = Math.floor(at), part = at - i;
  return RAMP[i].map((a, k) => Math.round(a + (RAMP[i + 1][k] - a) * part));
}
