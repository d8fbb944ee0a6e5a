// How a test talks with a script: a line of JSON is a command, a line of JSON is its answer, in order. The end of the input ends the script.

import { createInterface } from "node:readline";

const text = (value) => JSON.stringify(value, (_, field) => (typeof field === "bigint" ? field.toString() : field));

/** Answers each command by the function of its name; what it throws is the answer `{ error }`. `ready` is said first. */
export async function answer(commands, ready = {}) {
  console.log(text(ready));
  for await (const line of createInterface({ input: process.stdin })) {
    const { command, ...options } = JSON.parse(line);
    try {
      if (!(command in commands)) throw new Error(`no command ${command}`);
      console.log(text((await commands[command](options)) ?? {}));
    } catch (error) {
      console.log(text({ error: String(error?.message ?? error) }));
    }
  }
  process.exit(0);
}

/** The settings that a test gives a script: one JSON object as its argument. */
export const settings = JSON.parse(process.argv[2] ?? "{}");
