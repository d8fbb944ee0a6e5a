// What both programs share: versions from the lock file, processor time, and the line of JSON that is a measurement.

import { readFileSync } from "node:fs";

// Linux fixes it for programs, whatever the kernel's own tick is.
const TICKS_PER_SECOND = 100;

const lock = JSON.parse(readFileSync(new URL("package-lock.json", import.meta.url)));

/** The version that the lock file has of a package. */
export const version = (name) => lock.packages[`node_modules/${name}`].version;

/** The window in seconds. */
export function seconds(text) {
  const value = Number(text);
  if (!(value > 0)) throw new Error("--seconds must be more than 0");
  return value;
}

/** Seconds of processor time of these processes, children that they waited for included. Throws if one is gone. */
function cpuSeconds(pids) {
  let ticks = 0;
  for (const pid of pids) {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name, field 2, is in parentheses and may hold anything; fields 14 to 17 are the times.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    for (const field of fields.slice(11, 15)) ticks += Number(field);
  }
  return ticks / TICKS_PER_SECOND;
}

/** Wall and processor time of this process and others from now on. */
export function startClock(others, window) {
  const pids = [process.pid, ...others];
  const [cpu, at] = [cpuSeconds(pids), performance.now()];
  return {
    isOver: () => performance.now() - at >= window * 1000,
    stop: () => ({ seconds: (performance.now() - at) / 1000, cpu_seconds: Math.round((cpuSeconds(pids) - cpu) * 100) / 100 }),
  };
}

/** Prints the measurement. Throws if nothing was counted. */
export function print(row, payments, times) {
  if (payments === 0) throw new Error("nothing was counted");
  console.log(JSON.stringify({ ...row, payments, ...times }));
}
