// The index of a release: columns, ids, places, details and words, read when they are asked for.

export class Trouble extends Error {}

/** Decompressed bytes of a file of the index. */
async function unpacked(blob) {
  const stream = blob.stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

export class Release {
  /** The release whose index lies in `folder`. Throws Trouble in one sentence. */
  static async open(folder = "data/") {
    const answer = await reach(new URL(`${folder}explore.json`, document.baseURI));
    if (answer.status === 404) {
      throw new Trouble(`The index of this page is missing (${folder}explore.json); aras explore RELEASE --out FOLDER writes page and index anew.`);
    }
    if (!answer.ok) throw new Trouble(`The index of this page cannot be read (${folder}explore.json: HTTP ${answer.status}).`);
    let head;
    try {
      head = await answer.json();
    } catch {
      throw new Trouble(`The index of this page is damaged (${folder}explore.json is not JSON); write the page anew with aras explore.`);
    }
    if (head.format !== 1) throw new Trouble(`The index of this page has format ${head.format}, which this page does not read; write both anew with one aras.`);
    return new Release(head, folder);
  }

  constructor(head, folder) {
    Object.assign(this, head);
    this.folder = folder;
    this.numberOf = new Map(head.numbers.map((column) => [column.name, column]));
    this.codeOf = new Map(head.codes.map((column) => [column.name, column]));
    this.promises = new Map();
    this.loaded = new Map();
    this.where = new URL(head.base, document.baseURI).href;
    this.whereOld = head.base_old ? new URL(head.base_old, document.baseURI).href : "";
    this.transferred = 0;
  }

  /** A file of the index, unpacked, fetched once. */
  file(name, make = (bytes) => bytes) {
    if (!this.promises.has(name)) {
      const promise = this.fetchFile(name).then(make).then((value) => {
        this.loaded.set(name, value);
        return value;
      });
      promise.catch(() => this.promises.delete(name));
      this.promises.set(name, promise);
    }
    return this.promises.get(name);
  }

  async fetchFile(name) {
    const answer = await reach(new URL(this.folder + name, document.baseURI));
    if (!answer.ok) throw new Trouble(`A file of this page's index is missing (${this.folder}${name}: HTTP ${answer.status}); write the page anew with aras explore.`);
    try {
      return await unpacked(await answer.blob());
    } catch {
      throw new Trouble(`A file of this page's index is damaged (${this.folder}${name}); write the page anew with aras explore.`);
    }
  }

  json(name) {
    return this.file(name, (bytes) => JSON.parse(new TextDecoder().decode(bytes)));
  }

  /** Values of a column of numbers: Float32Array with NaN for null, or Uint8Array. */
  number(name) {
    const column = this.numberOf.get(name);
    if (!column) return Promise.reject(new Trouble(`This release has no column ${name}.`));
    return this.file(column.file, (bytes) => (column.bytes === 1 ? new Uint8Array(bytes) : new Float32Array(bytes)));
  }

  /** A number column if it is here already. */
  numberNow(name) {
    return this.loaded.get(this.numberOf.get(name)?.file);
  }

  /** Values of a column of labels. */
  code(name) {
    const column = this.codeOf.get(name);
    return this.file(column.file, (bytes) => (column.bytes === 1 ? new Uint8Array(bytes) : new Uint32Array(bytes)));
  }

  codeNow(name) {
    return this.loaded.get(this.codeOf.get(name).file);
  }

  floats(name) {
    return this.file(`${name}.bin`, (bytes) => new Float32Array(bytes));
  }

  segmentOf(row) {
    return String(Math.floor(row / this.segment)).padStart(4, "0");
  }

  /** Id of a row. */
  async id(row) {
    return (await this.json(`ids-${this.segmentOf(row)}.bin`))[row % this.segment];
  }

  /** Ids of rows, in their order. */
  async ids(rows) {
    const segments = new Map();
    for (const row of rows) segments.set(this.segmentOf(row), null);
    await Promise.all([...segments.keys()].map(async (name) => segments.set(name, await this.json(`ids-${name}.bin`))));
    return Array.from(rows, (row) => segments.get(this.segmentOf(row))[row % this.segment]);
  }

  /** Row of an id; -1 where there is none. */
  async find(id) {
    for (let first = 0; first < this.rows; first += this.segment) {
      const place = (await this.json(`ids-${this.segmentOf(first)}.bin`)).indexOf(id);
      if (place >= 0) return first + place;
    }
    return -1;
  }

  /** Where the pictures of a segment's rows are. */
  places(segment) {
    return this.file(`places-${segment}.bin`, (bytes) => {
      const rows = bytes.byteLength / 28;
      let at = 0;
      const take = (Kind) => {
        const values = new Kind(bytes.slice(at, at + rows * Kind.BYTES_PER_ELEMENT));
        at += rows * Kind.BYTES_PER_ELEMENT;
        return values;
      };
      const shard = take(Uint32Array), places = { shard };
      for (const picture of ["image", "mask"]) {
        const start = take(Float64Array), size = take(Uint32Array);
        for (let i = 1; i < rows; i++) if (shard[i] === shard[i - 1]) start[i] += start[i - 1] + size[i - 1];
        places[picture] = { start, size };
      }
      return places;
    });
  }

  /** {address, start, size, limit} of a picture of a row. */
  async place(row, picture) {
    if (this.older) throw new Trouble(this.older);
    const places = await this.places(this.segmentOf(row)), i = row % this.segment;
    const shard = places.shard[i];
    return {
      file: this.shards[shard], address: this.where + encodeURI(this.shards[shard]),
      start: places[picture].start[i], size: places[picture].size[i],
    };
  }

  /** All that the index says of a row. */
  async details(row) {
    const ends = await this.file("blocks-of-details.bin", (bytes) => new Uint32Array(bytes));
    const block = Math.floor(row / this.block), segment = this.segmentOf(row);
    const isFirst = (block * this.block) % this.segment === 0;
    const start = isFirst ? 0 : ends[block - 1];
    const name = `details-${segment}.bin`, key = `${name}:${block}`;
    if (!this.promises.has(key)) {
      const promise = (async () => {
        const bytes = await readRange(new URL(this.folder + name, document.baseURI).href, start, ends[block], name);
        return JSON.parse(new TextDecoder().decode(await unpacked(new Blob([bytes]))));
      })();
      promise.catch(() => this.promises.delete(key));
      this.promises.set(key, promise);
    }
    return (await this.promises.get(key))[row % this.block];
  }

  /** Rows (ascending) in whose captions every word occurs; the last word may be unfinished. */
  async search(text) {
    const asked = text.normalize("NFKC").toLowerCase().match(/[\p{L}\p{M}]+|\p{Nd}+/gu) ?? [];
    if (!asked.length) return null;
    const index = await this.json("words.bin");
    let kept = null;
    for (const [i, word] of asked.entries()) {
      let first = lowerBound(index.words, word), last = first;
      if (i === asked.length - 1) while (last < index.words.length && index.words[last].startsWith(word)) last++;
      else if (index.words[first] === word) last = first + 1;
      if (last - first > 400) last = first + 400; // a single letter: the most that one search reads
      const rows = await this.rowsOf(index, first, last);
      kept = kept === null ? rows : kept.map((held, row) => held & rows[row]);
    }
    return kept;
  }

  /** A byte per row: whether a caption of it has one of the words `first` to `last`. */
  async rowsOf(index, first, last) {
    const held = new Uint8Array(this.rows);
    if (last === first) return held;
    const base = index.ends[first];
    const bytes = await readRange(new URL(`${this.folder}rows.bin`, document.baseURI).href, base, index.ends[last], "rows.bin");
    for (let i = first; i < last; i++) {
      const part = await unpacked(new Blob([bytes.slice(index.ends[i] - base, index.ends[i + 1] - base)]));
      const steps = new { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array }[index.widths[i]](part);
      let row = 0;
      for (const step of steps) held[row += step] = 1;
    }
    return held;
  }
}

function lowerBound(words, word) {
  let low = 0, high = words.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (words[middle] < word) low = middle + 1; else high = middle;
  }
  return low;
}

/** An answer, or Trouble where nobody answers. */
export async function reach(address, options = {}) {
  try {
    return await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const origin = new URL(address, document.baseURI).origin;
    const isOther = origin !== location.origin;
    throw new Trouble(isOther
      ? `${origin} does not answer this page: it cannot be reached, or it does not let pages of other sites read its files (CORS; Zenodo does not).`
      : `The server of this page does not answer any more (${origin}); start it again.`);
  }
}

/** Bytes `start` to `end` of a file. Throws Trouble in one sentence. */
export async function readRange(address, start, end, name, signal) {
  const control = new AbortController();
  signal?.addEventListener("abort", () => control.abort());
  const answer = await reach(address, { headers: { Range: `bytes=${start}-${end - 1}` }, signal: control.signal });
  if (answer.status === 200) {
    control.abort();
    throw new Trouble(`The server of ${name} sends whole files, not ranges; serve the release with aras explore, or from a server that answers Range requests.`);
  }
  if (answer.status === 404) throw new Trouble(`${name} is a file of the release but is missing at ${new URL(address).origin}.`);
  if (answer.status === 416) throw new Trouble(`${name} ends before byte ${start}: it is cut short, or not the file of this release; aras check names what is wrong.`);
  if (answer.status !== 206) throw new Trouble(`${name} cannot be read (HTTP ${answer.status} of ${new URL(address).origin}).`);
  const bytes = await answer.arrayBuffer();
  if (bytes.byteLength !== end - start) {
    throw new Trouble(`${name} ends after ${bytes.byteLength} of the ${end - start} bytes from ${start} on: it is cut short; aras check names what is wrong.`);
  }
  return bytes;
}
