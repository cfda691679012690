// Pictures by ranges of the shards: neighbours are read together, what is out of sight is not read.

import { Trouble, readRange } from "./release.js";

const GAP = 16 << 10; // bytes that are read for nothing between two pictures, at most
const LONGEST = 4 << 20; // bytes of a range of several pictures, at most
const AT_ONCE = 8;
const KEPT = 2_000; // pictures kept in memory

export class Pictures {
  constructor(release, trouble) {
    this.release = release;
    this.trouble = trouble;
    this.kept = new Map(); // key → address of a blob, the least used first
    this.waiting = new Map(); // key → {row, picture, callbacks}
    this.running = 0;
    this.queue = [];
    this.timer = 0;
    this.requests = 0;
    this.bytes = 0;
  }

  /** Address of a picture of a row, by a promise that is given up where `isWanted` says no. */
  get(row, picture, isWanted = () => true) {
    const key = `${picture}:${row}`;
    const address = this.kept.get(key);
    if (address) {
      this.kept.delete(key);
      this.kept.set(key, address);
      return Promise.resolve(address);
    }
    return new Promise((done, fail) => {
      if (!this.waiting.has(key)) this.waiting.set(key, { key, row, picture, callbacks: [], wanted: [] });
      const want = this.waiting.get(key);
      want.callbacks.push([done, fail]);
      want.wanted.push(isWanted);
      if (!this.timer) this.timer = setTimeout(() => this.plan(), 30);
    });
  }

  /** Bytes of a picture at a place that is not a row of this release. */
  async at(place) {
    const bytes = await readRange(place.address, place.start, place.start + place.size, place.file);
    return this.keep(`${place.address}:${place.start}`, bytes, 0, place.size, place.file);
  }

  /** Join what is waited for to ranges. */
  async plan() {
    this.timer = 0;
    const wants = [...this.waiting.values()].filter((want) => !want.isPlanned);
    const placed = [];
    await Promise.all(wants.map(async (want) => {
      want.isPlanned = true;
      if (!want.wanted.some((isWanted) => isWanted())) return this.drop(want);
      try {
        placed.push(Object.assign(want, await this.release.place(want.row, want.picture)));
      } catch (error) {
        this.fail([want], error);
      }
    }));
    placed.sort((a, b) => (a.file < b.file ? -1 : a.file > b.file ? 1 : a.start - b.start));
    let range = null;
    const ranges = [];
    for (const want of placed) {
      const end = want.start + want.size;
      if (range && range.file === want.file && want.start - range.end <= GAP && end - range.start <= LONGEST) {
        range.end = Math.max(range.end, end);
        range.wants.push(want);
      } else ranges.push(range = { file: want.file, address: want.address, start: want.start, end, wants: [want] });
    }
    this.queue.push(...ranges);
    this.next();
  }

  next() {
    while (this.running < AT_ONCE && this.queue.length) {
      const range = this.queue.shift();
      const wants = range.wants.filter((want) => want.wanted.some((isWanted) => isWanted()) || void this.drop(want));
      if (!wants.length) continue;
      range.wants = wants;
      this.running++;
      this.read(range).finally(() => {
        this.running--;
        this.next();
      });
    }
  }

  async read(range) {
    try {
      this.requests++;
      const bytes = await readRange(range.address, range.start, range.end, range.file);
      this.bytes += bytes.byteLength;
      for (const want of range.wants) {
        try {
          const address = this.keep(want.key, bytes, want.start - range.start, want.size, range.file);
          this.waiting.delete(want.key);
          for (const [done] of want.callbacks) done(address);
        } catch (error) {
          this.fail([want], error);
        }
      }
    } catch (error) {
      this.fail(range.wants, error);
    }
  }

  /** Keep a picture; the longest unused goes. */
  keep(key, bytes, start, size, file) {
    const head = new Uint8Array(bytes, start, Math.min(size, 8));
    const isPng = head[0] === 0x89 && head[1] === 0x50 && head[2] === 0x4e && head[3] === 0x47;
    if (!isPng) throw new Trouble(`${file} has no picture where the release says one is: it is not the file of this release; aras check names what is wrong.`);
    const address = URL.createObjectURL(new Blob([bytes.slice(start, start + size)], { type: "image/png" }));
    this.kept.set(key, address);
    if (this.kept.size > KEPT) {
      const [oldest, gone] = this.kept.entries().next().value;
      this.kept.delete(oldest);
      URL.revokeObjectURL(gone);
    }
    return address;
  }

  drop(want) {
    this.waiting.delete(want.key);
    for (const [, fail] of want.callbacks) fail(null);
  }

  fail(wants, error) {
    for (const want of wants) {
      this.waiting.delete(want.key);
      for (const [, fail] of want.callbacks) fail(error);
    }
    this.trouble(error);
  }
}
