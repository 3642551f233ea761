/**
 * Pictures of the saved results, for light and dark pages: `docs/bench-light.svg` and `docs/bench-dark.svg`.
 *
 *     deno task bench:plot
 *
 * @module
 */
import { OURS } from "./lane.ts";
import { readSaved, type SavedLane, type SavedSample } from "./saved.ts";
import { box, document, line, text } from "./svg.ts";

/** The colors of a page. */
export type Theme = keyof typeof THEMES;

const THEMES = {
  light: { text: "#1f2328", muted: "#59636e", axis: "#818b98", ours: "#0969da", others: "#8c959f" },
  dark: { text: "#f0f6fc", muted: "#9198a1", axis: "#656c76", ours: "#4493f8", others: "#656c76" },
} as const;

const WIDTH = 840;
const GAP = 28;
/** Room for the names, on the left of a panel, and for the figures, on its right. */
const NAMES = 140;
const VALUES = 60;
const ROW = 22;
const BAR = 14;
const GROUP_TITLE = 24;
const GROUP_GAP = 14;
/** Where the first group begins. */
const TOP = 88;
const TICK = 5;
/** From the axis to the first note. */
const NOTES = 54;
const NOTE_LINE = 18;
/** So many characters of a note fit into a line. */
const NOTE_LENGTH = 126;

/** Draws the saved results in both themes. */
export async function drawSaved(): Promise<void> {
  const lanes = await readSaved();
  for (const theme of ["light", "dark"] as const) {
    const file = new URL(`../../docs/bench-${theme}.svg`, import.meta.url);
    await Deno.writeTextFile(file, drawing(lanes, theme));
  }
}

/** The picture of some lanes' hand-offs: for each a panel, side by side, with an axis of its own from zero. */
export function drawing(lanes: Record<string, SavedLane>, theme: Theme): string {
  const panels = Object.entries(lanes);
  const rows = Math.max(...panels.flatMap(([, lane]) => groupsOf(lane).map(([, samples]) => samples.length)));
  const groups = Math.max(...panels.map(([, lane]) => groupsOf(lane).length));
  const bottom = TOP + groups * (GROUP_TITLE + rows * ROW) + (groups - 1) * GROUP_GAP;
  const width = (WIDTH - GAP * (panels.length - 1)) / panels.length;
  const notes = notesOf(lanes).flatMap(wrapped);
  const height = bottom + NOTES + notes.length * NOTE_LINE;
  const colors = THEMES[theme];
  return document({ width: WIDTH, height, title: "Hand-offs per second", description: descriptionOf(lanes) }, [
    text(0, 20, "Hand-offs per second", { fill: colors.text, size: 18, weight: 600 }),
    text(0, 42, "Connections accepted by one process and answered by another. Longer is better; the scales differ.", {
      fill: colors.muted,
    }),
    ...panels.flatMap(([name, lane], index) => panel(name, lane, index * (width + GAP), width, rows, bottom, theme)),
    ...notes.map((note, index) => text(0, bottom + NOTES + index * NOTE_LINE, note, { fill: colors.muted, size: 12 })),
  ]);
}

function panel(
  name: string,
  lane: SavedLane,
  left: number,
  width: number,
  rows: number,
  bottom: number,
  theme: Theme,
): string[] {
  const colors = THEMES[theme];
  const zero = left + NAMES;
  const most = Math.max(...groupsOf(lane).flatMap(([, samples]) => samples.flatMap(([, { rates }]) => rates)));
  const step = tickStep(most);
  const at = (perSecond: number) => zero + perSecond / most * (width - NAMES - VALUES);
  const parts = [
    text(left, TOP - 10, name, { fill: colors.text, size: 15, weight: 600 }),
    line(zero, TOP + GROUP_TITLE - 4, zero, bottom, { stroke: colors.axis }),
    line(zero, bottom, at(most), bottom, { stroke: colors.axis }),
  ];
  for (let tick = 0; tick <= most; tick += step) {
    parts.push(
      line(at(tick), bottom, at(tick), bottom + TICK, { stroke: colors.axis }),
      text(at(tick), bottom + 19, inThousands(tick), { fill: colors.muted, size: 12, anchor: "middle" }),
    );
  }
  groupsOf(lane).forEach(([inFlight, samples], group) => {
    const top = TOP + group * (GROUP_TITLE + rows * ROW + GROUP_GAP);
    parts.push(text(left, top + 16, `${inFlight} in flight`, { fill: colors.muted, size: 12 }));
    samples.forEach(([contestant, { perSecond, rates }], row) => {
      const middle = top + GROUP_TITLE + (row + 0.5) * ROW;
      const ours = contestant === OURS;
      const [least, greatest] = [Math.min(...rates), Math.max(...rates)];
      const weight = ours ? 600 : 400;
      parts.push(
        text(left, middle + 4.5, contestant, { fill: colors.text, weight }),
        box(zero, middle - BAR / 2, at(perSecond) - zero, BAR, { fill: ours ? colors.ours : colors.others }),
        line(at(least), middle, at(greatest), middle, { stroke: colors.text }),
        text(at(greatest) + 7, middle + 4.5, inThousands(perSecond), { fill: colors.text, weight }),
      );
    });
  });
  return parts;
}

/** The numbers in flight of a lane, and what was measured at each. */
function groupsOf(lane: SavedLane): [inFlight: string, samples: [contestant: string, sample: SavedSample][]][] {
  return Object.entries(lane.handoffs).map(([inFlight, samples]) => [inFlight, Object.entries(samples)]);
}

/** How the results came about: what is the same for all lanes once, and then what is a lane's own. */
function notesOf(lanes: Record<string, SavedLane>): string[] {
  const circumstances = Object.entries(lanes).map(([name, { date, machine, rounds, seconds }]) => {
    const samples = rounds === 1
      ? `One sample of ${seconds} s each, which is too short to compare`
      : `Medians of ${rounds} samples of ${seconds} s; thin lines: from the slowest to the fastest`;
    return { name, text: `${date}, ${machine}. ${samples}.` };
  });
  const shared = new Set(circumstances.map(({ text }) => text)).size === 1;
  return [
    ...shared ? [circumstances[0]!.text] : circumstances.map(({ name, text }) => `${name}: ${text}`),
    "“Send” is subprocess.send of node:child_process; Deno's passes sockets on Unix only.",
    ...Object.entries(lanes).map(([name, { note, versions, missing }]) => {
      const programs = [...new Set(Object.values(versions))].join("; ");
      const without = missing.length === 0 ? "" : ` Not measured: ${missing.join("; ")}.`;
      return `${name}: ${programs}; ${note}.${without}`;
    }),
  ];
}

/** What the picture shows, for those who do not see it. */
function descriptionOf(lanes: Record<string, SavedLane>): string {
  return Object.entries(lanes).flatMap(([name, lane]) => {
    return groupsOf(lane).map(([inFlight, samples]) => {
      const rates = samples.map(([contestant, { perSecond }]) => `${contestant} ${inThousands(perSecond)}`);
      return `${name}, ${inFlight} in flight: ${rates.join(", ")}.`;
    });
  }).join(" ");
}

function inThousands(perSecond: number): string {
  return Math.round(perSecond).toLocaleString("en-US");
}

/** A round number, of which about four fit into the axis. */
function tickStep(most: number): number {
  const power = 10 ** Math.floor(Math.log10(most));
  return [0.2, 0.5, 1, 2, 5].map((factor) => factor * power).find((step) => most / step <= 4.5) ?? most;
}

/** The lines a note is set in. */
function wrapped(note: string): string[] {
  const lines: string[] = [];
  let rest = note;
  while (rest.length > NOTE_LENGTH) {
    const end = rest.lastIndexOf(" ", NOTE_LENGTH);
    lines.push(rest.slice(0, end));
    rest = rest.slice(end + 1);
  }
  return [...lines, rest];
}

if (import.meta.main) await drawSaved();
