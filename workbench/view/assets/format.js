// Numbers as people read them: binary sizes, times, and the ticks of an axis.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function formatBytes(size) {
  if (size < 0) return `−${formatBytes(-size)}`;
  let unit = 0;
  while (size >= 1023.995 && unit < UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return unit ? `${size.toFixed(size < 100 ? 2 : 1)} ${UNITS[unit]}` : `${Math.round(size)} B`;
}

export function formatShare(share) {
  return `${share < 0 ? "−" : ""}${Math.abs(share * 100).toFixed(1)} %`;
}

export function formatCount(count) {
  return Math.round(count).toLocaleString("en-US");
}

/** A time or a duration in the unit that fits it, with as many digits as `step`, the least that matters, asks for. */
export function formatTime(ns, step = Math.abs(ns) / 1000) {
  const [unit, name] = timeUnit(Math.max(Math.abs(ns), step));
  const digits = Math.min(Math.max(Math.ceil(Math.log10(unit / Math.max(step, 1)) - 1e-9), 0), 9);
  return `${(ns / unit).toFixed(digits)} ${name}`;
}

function timeUnit(ns) {
  if (ns >= 1e9) return [1e9, "s"];
  if (ns >= 1e6) return [1e6, "ms"];
  if (ns >= 1e3) return [1e3, "µs"];
  return [1, "ns"];
}

/** Ticks of a time axis: round decimal steps. */
export function timeTicks(start, end, most) {
  const raw = Math.max((end - start) / most, 1);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((one) => one * power >= raw);
  const ticks = [];
  for (let at = Math.ceil(start / step) * step; at <= end; at += step) ticks.push(at);
  return { ticks, step };
}

/** Ticks of an axis of bytes from 0: round binary steps. */
export function byteTicks(top, most) {
  const raw = Math.max(top / most, 1);
  let step = 2 ** Math.floor(Math.log2(raw));
  if (step < raw) step *= 2;
  const ticks = [];
  for (let at = 0; at <= top; at += step) ticks.push(at);
  return ticks;
}

/** A size on an axis: no more digits than it has. */
export function formatTick(size) {
  if (!size) return "0";
  let unit = 0;
  while (size >= 1024 && unit < UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${Number(size.toFixed(2))} ${UNITS[unit]}`;
}
