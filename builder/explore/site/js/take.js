// Take the selection along: a file of ids, the command that fetches it, a table.

import { h, put, count, copyButton, save } from "./dom.js";
import { question } from "./filter.js";
import { isFiltered } from "./state.js";

const quote = (text) => (/^[\w./:@+-]+$/.test(text) ? text : `"${text.replace(/(["$`\\])/g, "\\$1")}"`);

/** The `aras get` command of a state. */
export function command(release, state, out = "selection") {
  const { where, options } = question(release, state);
  const parts = ["aras get", quote(release.address), out];
  if (where) parts.push(`--where ${quote(where)}`);
  for (const [name, ...values] of options) parts.push(`${name} ${values.map(quote).join(" ")}`);
  return parts.join(" ");
}

/** The selection as id,split, and its digest as `aras` computes it: equal digests, equal subsets. */
export async function subset(release, rows) {
  const splits = await release.code("split"), labels = release.codeOf.get("split").labels;
  const ids = await release.ids(rows);
  const lines = ids.map((id, i) => [id, labels[splits[rows[i]]]]);
  const sorted = lines.map(([id, split]) => `${id},${split}\n`).sort(byPoints).join("");
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(sorted));
  const digest = [...new Uint8Array(hash)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return { text: table([["id", "split"], ...lines]), digest };
}

/** Order of code points, as Python sorts text. */
function byPoints(a, b) {
  const [x, y] = [[...a], [...b]];
  for (let i = 0; i < Math.min(x.length, y.length); i++) {
    const d = x[i].codePointAt(0) - y[i].codePointAt(0);
    if (d) return d;
  }
  return x.length - y.length;
}

/** A table as CSV; a cell that a spreadsheet would compute gets a quote before it. */
export function table(rows) {
  const cell = (value) => {
    let text = value === null || value === undefined || Number.isNaN(value) ? "" : String(value);
    if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map((row) => `${row.map(cell).join(",")}\n`).join("");
}

async function csv(app) {
  const { release, rows } = app, ids = await release.ids(rows);
  const codes = await Promise.all(["kind", "split", "dominant"].map((name) => release.code(name)));
  const labels = ["kind", "split", "dominant"].map((name) => release.codeOf.get(name).labels);
  const columns = release.numbers.filter((column) => !column.stream);
  const values = await Promise.all(columns.map((column) => release.number(column.name)));
  const lon = await release.floats("longitude"), lat = await release.floats("latitude");
  const lines = ids.map((id, i) => [id, ...codes.map((code, k) => labels[k][code[rows[i]]]), lon[rows[i]], lat[rows[i]], ...values.map((column) => column[rows[i]])]);
  return table([["id", "kind", "split", "dominant", "longitude", "latitude", ...columns.map((column) => column.name)], ...lines]);
}

export async function takeAlong(app) {
  const { release, state, rows } = app, dialog = document.getElementById("dialog");
  const name = `${release.name || "release"}-${release.version}`;
  const line = command(release, state);
  const digest = h("code", {}, "…");
  const file = (label, make) => h("button", { type: "button", class: "quiet", onclick: () => make().catch(app.trouble) }, label);
  put(dialog,
    h("h2", { id: "dialog-title" }, `Take ${count(rows.length)} tiles along`),
    h("h3", {}, "The command that fetches them"),
    h("p", {}, h("code", {}, line)),
    state.q ? h("p", { class: "muted" }, "Words are searched anew by the command, the last one as the beginning of a word.") : null,
    isFiltered(state) ? null : h("p", { class: "muted" }, "No filter is set: these are all rows."),
    h("div", { class: "row" }, copyButton("Copy the command", line)),
    h("h3", {}, "Files"),
    h("div", { class: "row" },
      file("Subset (ids, splits)", async () => save(`${name}-subset.csv`, (await subset(release, rows)).text, "text/csv")),
      file("Table (CSV)", async () => save(`${name}-selection.csv`, await csv(app), "text/csv"))),
    h("p", { class: "muted" }, "Digest of the subset: ", digest),
    h("div", { class: "row end" }, h("button", { type: "button", class: "strong", onclick: () => dialog.close() }, "Done")));
  dialog.showModal();
  digest.textContent = (await subset(release, rows)).digest;
}
