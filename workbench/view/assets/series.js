// Bytes over time of several bands, as samples: values hold from their time until the next.

export class Series {
  constructor(facts, columns) {
    this.facts = facts;
    this.start = facts.start;
    this.end = facts.end;
    this.times = columns.time;
    this.bands = facts.bands;
    this.values = facts.bands.map((_, i) => columns[`band ${i}`]);
    this.truth = { times: columns.truth_time ?? new Float64Array(0), values: columns.truth ?? new Float64Array(0) };
    this.match = columns.match ? { times: columns.match_time, values: columns.match } : null;
  }

  /** The sample that holds at a time. */
  at(time) {
    return Math.max(lastUntil(this.times, time), 0);
  }

  /** The bytes of the chosen bands, one on the other, in each of `count` columns: at the moment they are most.
   *
   * tops[b * count + c] is the upper edge of band b in column c. */
  columns(start, end, count, isShown) {
    const bands = this.values.length;
    const tops = new Float64Array(bands * count);
    const sums = this.sums(isShown);
    const perColumn = (end - start) / count;
    let i = this.at(start);
    let highest = 0;
    for (let c = 0; c < count; c++) {
      const until = start + (c + 1) * perColumn;
      if (until <= this.start || start + c * perColumn >= this.end) continue;
      let best = i;
      while (i + 1 < this.times.length && this.times[i + 1] < until) {
        i += 1;
        if (sums[i] > sums[best]) best = i;
      }
      let top = 0;
      for (let b = 0; b < bands; b++) {
        if (isShown(b)) top += Math.max(this.values[b][best], 0);
        tops[b * count + c] = top;
      }
      if (top > highest) highest = top;
    }
    return { tops, highest };
  }

  sums(isShown) {
    const key = this.bands.map((_, b) => (isShown(b) ? "1" : "0")).join("");
    if (this.summed?.key !== key) {
      const sums = new Float64Array(this.times.length);
      this.values.forEach((values, b) => {
        if (isShown(b)) for (let i = 0; i < sums.length; i++) sums[i] += values[i];
      });
      this.summed = { key, sums };
    }
    return this.summed.sums;
  }
}

/** The last place in ascending `times` that is not later than `time`; -1 where all are. */
export function lastUntil(times, time) {
  let [low, high] = [0, times.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] <= time) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
