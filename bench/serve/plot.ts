/**
 * Pictures of the saved results of servers: `docs/serve-light.svg` and `docs/serve-dark.svg`.
 *
 * @module
 */
import { chart, type Theme } from "../handoff/plot.ts";
import { readSaved } from "../handoff/saved.ts";
import { CONNECTIONS, LISTENER } from "./contestants.ts";
import type { SavedServe } from "./saved.ts";

/** The saved results of servers, by lane. */
export async function readServe(): Promise<[lane: string, serve: SavedServe][]> {
  return Object.entries(await readSaved()).flatMap(([name, { serve }]) => serve === undefined ? [] : [[name, serve]]);
}

/** Draws the saved results in both themes. */
export async function drawServe(): Promise<void> {
  const lanes = await readServe();
  for (const theme of ["light", "dark"] as const) {
    const file = new URL(`../../docs/serve-${theme}.svg`, import.meta.url);
    await Deno.writeTextFile(file, servePicture(lanes, theme));
  }
}

/** The picture of some lanes' servers. */
export function servePicture(lanes: readonly [string, SavedServe][], theme: Theme): string {
  return chart({
    title: "Requests per second",
    subtitle: "Servers of several processes, 32 connections. Longer is better; the scales differ.",
    panels: lanes.map(([name, { requests }]) => ({
      name,
      groups: Object.entries(requests).map(([kind, samples]) => [kind, Object.entries(samples)] as const),
    })),
    ours: [LISTENER, CONNECTIONS],
    notes: lanes.flatMap(([name, { date, machine, note, rounds, seconds, missing, goals }]) => [
      `${name}: ${date}, ${machine}. ${note}. Medians of ${rounds} samples of ${seconds} s; thin lines: from the ` +
      `slowest to the fastest.${missing.length === 0 ? "" : ` Not measured: ${missing.join("; ")}.`}`,
      ...goals.map((goal) => `${name}: ${goal}.`),
    ]),
  }, theme);
}

if (import.meta.main) await drawServe();
