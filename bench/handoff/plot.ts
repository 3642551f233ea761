/**
 * Pictures of the saved results, for light and dark pages: `docs/bench-light.svg` and `docs/bench-dark.svg`.
 *
 *     deno task bench:plot
 *
 * @module
 */
import { OURS } from "./lane.ts";
import { readSaved, type SavedLane } from "./saved.ts";
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

/** The picture of some lanes' hand-offs. */
export function drawing(lanes: Record<string, SavedLane>, theme: Theme): string {
  return chart({
    title: "Hand-offs per second",
    subtitle: "Connections accepted by one process and answered by another. Longer is better; the scales differ.",
    panels: Object.entries(lanes).map(([name, lane]) => ({ name, groups: groupsOf(lane) })),
    ours: [OURS],
    notes: notesOf(lanes),
  }, theme);
}

/** What is drawn of one contestant. */
interface Bar {
  readonly perSecond: number;
  readonly rates: readonly number[];
}

type Group = readonly [title: string, bars: readonly (readonly [contestant: string, bar: Bar])[]];

/** What a picture shows: panels side by side, each with an axis of its own from zero. */
export interface Chart {
  readonly title: string;
  readonly subtitle: string;
  readonly panels: readonly { readonly name: string; readonly groups: readonly Group[] }[];
  /** The contestants that are of this library. */
  readonly ours: readonly string[];
  readonly notes: readonly string[];
}

/** The picture of a chart. */
export function chart({ title, subtitle, panels, ours, notes: allNotes }: Chart, theme: Theme): string {
  const rows = Math.max(...panels.flatMap(({ groups }) => groups.map(([, bars]) => bars.length)));
  const groups = Math.max(...panels.map(({ groups }) => groups.length));
  const bottom = TOP + groups * (GROUP_TITLE + rows * ROW) + (groups - 1) * GROUP_GAP;
  const width = (WIDTH - GAP * (panels.length - 1)) / panels.length;
  const notes = allNotes.flatMap(wrapped);
  const height = bottom + NOTES + notes.length * NOTE_LINE;
  const colors = THEMES[theme];
  return document({ width: WIDTH, height, title, description: descriptionOf(panels) }, [
    text(0, 20, title, { fill: colors.text, size: 18, weight: 600 }),
    text(0, 42, subtitle, { fill: colors.muted }),
    ...panels.flatMap((shown, index) => panel(shown, ours, index * (width + GAP), width, rows, bottom, theme)),
    ...notes.map((note, index) => text(0, bottom + NOTES + index * NOTE_LINE, note, { fill: colors.muted, size: 12 })),
  ]);
}

function panel(
  { name, groups }: Chart["panels"][number],
  allOurs: readonly string[],
  left: number,
  width: number,
  rows: number,
  bottom: number,
  theme: Theme,
): string[] {
  const colors = THEMES[theme];
  const zero = left + NAMES;
  const most = Math.max(...groups.flatMap(([, bars]) => bars.flatMap(([, { rates }]) => rates)));
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
  groups.forEach(([title, bars], group) => {
    const top = TOP + group * (GROUP_TITLE + rows * ROW + GROUP_GAP);
    parts.push(text(left, top + 16, title, { fill: colors.muted, size: 12 }));
    bars.forEach(([contestant, { perSecond, rates }], row) => {
      const middle = top + GROUP_TITLE + (row + 0.5) * ROW;
      const ours = allOurs.includes(contestant);
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

/** What was measured at each number in flight of a lane. */
function groupsOf(lane: SavedLane): Group[] {
  return Object.entries(lane.handoffs).map(([inFlight, samples]) => [`${inFlight} in flight`, Object.entries(samples)]);
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
function descriptionOf(panels: Chart["panels"]): string {
  return panels.flatMap(({ name, groups }) => {
    return groups.map(([title, bars]) => {
      const rates = bars.map(([contestant, { perSecond }]) => `${contestant} ${inThousands(perSecond)}`);
      return `${name}, ${title}: ${rates.join(", ")}.`;
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
