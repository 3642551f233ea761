/** `docs/failures.md`: what the tests found, as tables. */
import { cellName, mayLinger } from "./expectations.ts";
import { type Fault, FAULTS, hasPayload, type Region, type Step, STEPS } from "./steps.ts";

export const PAGE = new URL("../../../docs/failures.md", import.meta.url);

/** The regions with a table of their own; `head` is in the first one. */
export const REGIONS = ["sequence", "length", "payload"] as const satisfies readonly Region[];

const NONE = "—";

const INTRODUCTION = `# What happens when something fails

The tests wrote these tables (\`tests/handoff/faults_test.ts\`) and fail when one cell comes out differently. Three
processes take part: a source, a target, and the peer of the connection that is handed off. At one step of the protocol,
right after it was taken, a fault comes. The steps are named as on the diagnostics channel \`TRACE_CHANNEL\`, except that
\`done-sent\` and \`done-received\` are both \`done\` there, \`withdraw-received\` is the target's \`withdrawn\`, and \`ready-sent\` and
\`end-sent\` are frames that leave and no steps of the channel. The faults:

| fault | what is done |
| --- | --- |
| kill target, kill source | \`SIGKILL\`, or \`TerminateProcess\` on Windows |
| freeze target | it is stopped for longer than the source's \`timeout\`, then runs on |
| truncate frame | the frame under way, or the next one, is cut anywhere, and its stream ends there |
| flip bytes | one byte of it is another: of the head, which is all in front of the sequence number |
| duplicate frame | it arrives twice |
| close stdin | the pipe to the target is closed, by the side whose step it is |
| close control socket | the way back to the source is shut down, by the side whose step it is |

A cell says how the hand-off ended for whoever called \`send\`, and who has the connection then, after everything the
fault set off: \`source\` and \`target\` answer on it, \`nobody\` means that the peer reads its end. Outcomes are those of
\`HandoffError\`; \`committed\`: \`send\` resolved; \`withdrawn\`: it rejected with the reason of the caller's signal. In every
cell the test sees that

* one process at most reads the connection, and when that one closes it the peer reads a FIN: nobody else has a copy;
* every process that lives has the descriptors it had before, once the channel has ended.

Where a cell has two ends, timing decides: a process that was killed keeps its end of a pipe for a moment.
¹ On Windows a duplicate is in the target from the moment it is made. If its OFFER is lost, the peer may read the end only
when the target process ends, as a target does whose \`receive\` loop is over.`;

const FLIPS = `## One byte of a frame's other fields

Nothing in a frame is a checksum: what is flipped is noticed because it makes no sense. HELLO's sequence number is not
used. Of the payloads, a process id in READY, a letter of the reason in REJECT, and the number of the duplicate in the blobs of
HELLO and OFFER are flipped; \`data\` and initial bytes travel as they are, and a flip in them is not noticed. With several
sockets on their way a flipped sequence number may be another's, which is not shown here.`;

/** The cells of the page, by the names of {@linkcode cellName}. */
export type Cells = ReadonlyMap<string, string>;

export function renderPage(cells: Cells): string {
  const steps = STEPS.map((step) => [
    `\`${step.name}\` ${step.what} (${step.side})`,
    ...FAULTS.map((fault) => cell(cells, step, fault, "head")),
  ]);
  const flips = STEPS.filter(sendsFrame).map((step) => [
    step.frame!,
    ...REGIONS.map((region) => cell(cells, step, "flip bytes", region)),
  ]);
  return [
    INTRODUCTION,
    "## Every fault at every step",
    "The steps in order; the last six are of other courses: the target rejects, the caller takes back, the source closes.",
    table(["after", ...FAULTS], steps),
    FLIPS,
    table(["frame", ...REGIONS], flips),
  ].join("\n\n") + "\n";
}

/** Whether there is such a cell: there is a frame to garble, and the frame has the region. */
export function exists(step: Step, fault: Fault, region: Region): boolean {
  if (region !== "head") return sendsFrame(step) && (region !== "payload" || hasPayload(step.frame));
  return step.frame !== undefined || !["truncate frame", "flip bytes", "duplicate frame"].includes(fault);
}

function sendsFrame({ on }: Step): boolean {
  return "frame" in on;
}

function cell(cells: Cells, step: Step, fault: Fault, region: Region): string {
  if (!exists(step, fault, region)) return NONE;
  const name = { step: step.name, fault, region };
  return `${cells.get(cellName(name)) ?? "?"}${mayLinger(name) ? " ¹" : ""}`;
}

function table(header: string[], rows: string[][]): string {
  return [header, header.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
}

/** The cells of a page that was rendered. */
export function parsePage(text: string): Map<string, string> {
  const cells = new Map<string, string>();
  let header: string[] = [];
  for (const line of text.split(/\r?\n/)) {
    const [first, ...values] = line.split("|").slice(1, -1).map((value) => value.trim());
    if (first === "after" || first === "frame") header = values;
    else if (header.length === values.length) addRow(cells, first ?? "", header, values);
  }
  return cells;
}

function addRow(cells: Map<string, string>, first: string, header: string[], values: string[]): void {
  const step = STEPS.find(({ name, frame, on }) => {
    return first.startsWith(`\`${name}\``) || first === frame && "frame" in on && on.frame === frame;
  });
  if (step === undefined) return;
  for (const [index, value] of values.entries()) {
    const column = header[index]!;
    const region = REGIONS.find((region) => region === column);
    const fault = region === undefined ? column as Fault : "flip bytes";
    if (value !== NONE) {
      cells.set(cellName({ step: step.name, fault, region: region ?? "head" }), value.replace(/ ¹$/, ""));
    }
  }
}
