/**
 * Why tests cannot use some functions and options on a system.
 *
 * @module
 */
import type { Lane } from "./page.ts";

/** A reason, and the rows that it is for. */
interface Reason {
  readonly lanes: readonly Lane[];
  /** Matches the name of a function, or a function and an option with a tab between them. */
  readonly rows: RegExp;
  /** A sentence for the page. */
  readonly reason: string;
}

export const REASONS: readonly Reason[] = [
  {
    lanes: ["linux", "macos"],
    rows: /^(?:kernel32|ws2_32|ws2spi|WinsockProvider\..*)$/,
    reason: "Only Windows has these libraries.",
  },
  {
    lanes: ["windows"],
    rows: /^(?:libc|UnixProvider\..*)$/,
    reason: "Only Linux and macOS have this library.",
  },
  {
    lanes: ["windows"],
    rows: /^(?:new DescriptorChannel|DescriptorChannel\..*|spawnActivated\t.*)$/,
    reason: "Windows does not pass descriptors in messages, or to the programs that a process starts.",
  },
  {
    lanes: ["windows"],
    rows: /^onUpgradeRequest\tosSignal$/,
    reason: "Windows does not have such signals.",
  },
  {
    lanes: ["macos"],
    rows:
      /^(?:AppServer\.(?:\[.*|statistics)|UpgradeResult\.retire(?:\t.*)?|WorkerPool\.restart\t.*|WorkerPool\.serve\t(?:initialBytes|signal)|WorkerPool\.dispatch\tsignal)$/,
    reason: "In this mode, programs that the library starts use the Linux code, so most of them do not become ready.",
  },
];

/** Returns the reason why a row cannot be seen in a lane; `undefined` if it can. */
export function reasonFor(lane: Lane, row: string): Reason | undefined {
  const name = row.slice(row.indexOf("\t") + 1);
  return REASONS.find(({ lanes, rows }) => lanes.includes(lane) && rows.test(name));
}
