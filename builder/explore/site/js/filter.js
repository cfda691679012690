// Rows that meet the filters, in the order asked for: arrays of bytes and numbers, no objects.

/** A byte per row: whether it meets all filters of `state`. `skip` leaves one filter out. */
export async function choose(release, state) {
  const kept = new Uint8Array(release.rows).fill(1);
  for (const name of ["kind", "split", "dominant"]) {
    if (!state[name].length) continue;
    const labels = release.codeOf.get(name).labels, values = await release.code(name);
    const allowed = labels.map((label) => (state[name].includes(label) ? 1 : 0));
    for (let i = 0; i < kept.length; i++) kept[i] &= allowed[values[i]] ?? 0;
  }
  if (state.flags.length) {
    const labels = release.codeOf.get("flags").labels, values = await release.code("flags");
    const bits = state.flags.reduce((sum, flag) => sum | (1 << labels.indexOf(flag)), 0);
    for (let i = 0; i < kept.length; i++) kept[i] &= (values[i] & bits) !== 0 ? 1 : 0;
  }
  for (const [name, [low, high]] of Object.entries(state.n)) {
    if (!release.numberOf.has(name)) continue;
    const values = await release.number(name);
    for (let i = 0; i < kept.length; i++) kept[i] &= values[i] >= low && values[i] <= high ? 1 : 0;
  }
  if (state.box) {
    const [west, south, east, north] = state.box;
    const x = await release.floats("longitude"), y = await release.floats("latitude");
    for (let i = 0; i < kept.length; i++) {
      const across = west <= east ? x[i] >= west && x[i] <= east : x[i] >= west || x[i] <= east;
      kept[i] &= across && y[i] >= south && y[i] <= north ? 1 : 0;
    }
  }
  if (state.q) {
    const found = await release.search(state.q);
    if (found) for (let i = 0; i < kept.length; i++) kept[i] &= found[i];
  }
  return kept;
}

/** The rows that are kept, in the order of `sort`: a column, `-` before it for the largest first. */
export async function order(release, kept, sort) {
  let n = 0;
  for (const value of kept) n += value;
  const rows = new Uint32Array(n);
  for (let i = 0, k = 0; i < kept.length; i++) if (kept[i]) rows[k++] = i;
  const name = sort.replace(/^-/, "");
  if (!name || !release.numberOf.has(name)) return rows;
  const values = await release.number(name);
  const bits = new Uint32Array(n);
  const float = new Float32Array(1), asBits = new Uint32Array(float.buffer);
  for (let i = 0; i < n; i++) {
    float[0] = values[rows[i]];
    if (Number.isNaN(float[0])) { bits[i] = 0xffffffff; continue; } // no value: last, either way
    const raw = asBits[0];
    const rising = raw & 0x80000000 ? ~raw : raw | 0x80000000;
    bits[i] = (sort.startsWith("-") ? ~rising : rising) >>> 0;
  }
  return radix(rows, bits);
}

/** Rows by ascending keys; equal keys keep their order. */
function radix(rows, keys) {
  const n = rows.length;
  let from = [rows, keys], to = [new Uint32Array(n), new Uint32Array(n)];
  for (const shift of [0, 16]) {
    const ends = new Uint32Array(65537);
    for (let i = 0; i < n; i++) ends[((from[1][i] >>> shift) & 0xffff) + 1]++;
    for (let i = 1; i < ends.length; i++) ends[i] += ends[i - 1];
    for (let i = 0; i < n; i++) {
      const place = ends[(from[1][i] >>> shift) & 0xffff]++;
      to[0][place] = from[0][i];
      to[1][place] = from[1][i];
    }
    [from, to] = [to, from];
  }
  return from[0];
}

/** Rows of a histogram's bars that are kept. */
export function bars(column, values, kept) {
  const out = new Uint32Array(column.bins.length);
  const width = (column.high - column.low || 1) / out.length;
  for (let i = 0; i < kept.length; i++) {
    if (!kept[i] || Number.isNaN(values[i])) continue;
    out[Math.min(out.length - 1, Math.floor((values[i] - column.low) / width))]++;
  }
  return out;
}

const quoted = (text) => `'${text.replaceAll("'", "''")}'`;

/** The filters as options of `aras get`; null for what it cannot ask. */
export function question(release, state) {
  const where = [], options = [];
  for (const name of ["kind", "split"]) {
    for (const label of state[name]) options.push([name === "kind" ? "--config" : "--split", label]);
  }
  if (state.dominant.length) where.push(`dominant IN (${state.dominant.map(quoted).join(", ")})`);
  if (state.flags.length) {
    const parts = state.flags.map((flag) => (flag === "copy" ? "copy"
      : flag === "duplicate" ? "duplicate_cluster IS NOT NULL"
      : flag === "near duplicate" ? "near_duplicate_cluster IS NOT NULL"
      : `list_contains(flags, ${quoted(flag)})`));
    where.push(parts.length > 1 ? `(${parts.join(" OR ")})` : parts[0]);
  }
  for (const [name, [low, high]] of Object.entries(state.n)) {
    const column = release.numberOf.get(name);
    if (column) where.push(`${column.sql} BETWEEN ${low} AND ${high}`);
  }
  if (state.box) options.push(["--bbox", ...state.box.map((x) => String(+x.toFixed(5)))]);
  for (const word of (state.q.toLowerCase().match(/[\p{L}\p{M}]+|\p{Nd}+/gu) ?? [])) {
    where.push(`len([c for c in captions if regexp_matches(lower(c.text), '\\b${word}')]) > 0`);
  }
  return { where: where.join(" AND "), options };
}
