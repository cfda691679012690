// What is looked at, kept in the address: whoever opens it sees the same.

const LISTS = ["kind", "split", "dominant", "flags"];
const TEXTS = ["view", "tile", "q", "sort", "colour", "stream", "query", "change", "map", "box"];
const NUMBERS = { mix: 0, size: 128 };

/** The state that an address describes; numbers as `n` (name → [low, high]). */
export function parse(hash) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const state = { n: {} };
  for (const name of TEXTS) state[name] = given.get(name) ?? "";
  for (const name of LISTS) state[name] = (given.get(name) ?? "").split(",").filter(Boolean);
  for (const [name, usual] of Object.entries(NUMBERS)) {
    const value = parseFloat(given.get(name));
    state[name] = Number.isFinite(value) ? value : usual;
  }
  for (const [name, value] of given) {
    if (!name.startsWith("n.")) continue;
    const ends = value.split("..").map(Number);
    if (ends.length === 2 && ends.every(Number.isFinite)) state.n[name.slice(2)] = ends;
  }
  state.box = state.box.split(",").map(Number);
  if (state.box.length !== 4 || !state.box.every(Number.isFinite)) state.box = null;
  state.view ||= "tiles";
  return state;
}

/** The address of a state; what is usual is left out. */
export function format(state) {
  const parts = new URLSearchParams();
  for (const name of TEXTS) {
    if (name === "box") { if (state.box) parts.set("box", state.box.map((x) => +x.toFixed(5)).join(",")); }
    else if (state[name] && !(name === "view" && state[name] === "tiles")) parts.set(name, state[name]);
  }
  for (const name of LISTS) if (state[name].length) parts.set(name, state[name].join(","));
  for (const [name, usual] of Object.entries(NUMBERS)) if (state[name] !== usual) parts.set(name, state[name]);
  for (const [name, [low, high]] of Object.entries(state.n)) parts.set(`n.${name}`, `${low}..${high}`);
  return `#${parts}`;
}

export const isFiltered = (state) =>
  Boolean(state.q || state.box || LISTS.some((name) => state[name].length) || Object.keys(state.n).length);
