// A run on the time axis that it shares with others: questions and answers go through, their times are translated.

import { lastUntil } from "./series.js";

export class AlignedSource {
  constructor(source, run, own, shared) {
    Object.assign(this, { source, run, own, shared });
  }

  toShared(time) {
    return between(time, this.own, this.shared);
  }

  toOwn(time) {
    return Math.round(between(time, this.shared, this.own));
  }

  async ask(question) {
    const asked = { ...question, run: this.run };
    for (const name of ["start", "end", "at"]) if (name in asked) asked[name] = this.toOwn(asked[name]);
    const answer = await this.source.ask(asked);
    return this.translate(question, answer);
  }

  translate(question, answer) {
    const columns = { ...answer.columns };
    const map = (name) => {
      if (columns[name]) columns[name] = Float64Array.from(columns[name], (time) => this.toShared(time));
    };
    if (question.ask === "series") ["time", "truth_time", "match_time"].forEach(map);
    if (question.ask === "run") ["start", "end"].forEach(map);
    const times = "start" in answer ? { start: question.start, end: question.end } : {};
    const end = question.ask === "run" ? { end: this.shared[this.shared.length - 1] } : {};
    return { ...answer, ...times, ...end, columns };
  }
}

/** A time on one axis as a time on another: the same distance from the last common moment, at most to the next. */
function between(time, from, to) {
  const place = Math.max(lastUntil(from, time), 0);
  if (place >= to.length - 1) return to[to.length - 1];
  return Math.min(to[place] + Math.max(time - from[place], 0), to[place + 1]);
}
