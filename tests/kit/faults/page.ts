/** `docs/failures.md`: what the tests found, as tables. */
import {
  cellName,
  exists,
  type Fault,
  FRAME_FAULTS,
  LISTENER_STEPS,
  PROCESS_FAULTS,
  type Step,
  STEPS,
} from "./steps.ts";

export const PAGE = new URL("../../../docs/failures.md", import.meta.url);

const NONE = "—";

const INTRODUCTION = `# What happens when something fails

The tests write these tables (\`tests/handoff/faults_test.ts\`) and fail when one cell comes out differently. Three processes
take part: a source, a target, and the peer of the connection that is handed off. One fault comes at one step of
[the protocol](./protocol.md), right after the step was taken.

A cell names the outcome and the owner. The outcome is the result of \`send\`: \`handed off\` means that it resolved, \`withdrawn\`
that it rejected with the reason of the caller's signal. The others are outcomes of \`HandoffError\`. If the source was killed
first, \`send\` has no result. **The owner is the process that answers on the connection in the end.** If that
process was killed, it is marked with \`†\`, and the peer reads the end of the connection. In every cell the test sees that

* the decision names the same owner: the target decided that the socket is taken, or it is the source's;
* at most one process reads the connection, and when that process closes it the peer reads a FIN: no other process has a
  copy;
* every process that lives has the descriptors it had before, once the channel has ended.

On Linux two of three targets inherit their channel, and the others get it over a socket. The results are the same. On Windows a
duplicate is in the target from the moment it is made: if its frame is lost, the duplicate stays there until the target's
process ends. The connection ends with its owner nevertheless.

Six cells have two possible results, each with one owner. Where a frozen source runs on, its deadline has passed and READY has come;
either may be handled first. Where OFFER has just left, the target may take the socket before the fault reaches it. Two cells
differ on Windows, where OFFER brings the socket itself and opening it takes a moment.`;

const PROCESSES = `## Processes and ways, at every step

| fault | what is done |
| --- | --- |
| kill target, kill source, kill both | \`SIGKILL\`, or \`TerminateProcess\` on Windows |
| freeze target, freeze source | the process is stopped for longer than the source's timeouts, and then continued |
| close frames | the connection that carries frames, a local socket or on Windows a pipe, is closed after the frames that were sent |
| close answers | the connection that carries answers, a pipe or on Windows a pair of loopback sockets, is closed |

The steps are in order. The last eight rows are for hand-offs that end in another way: the target rejects, the caller
withdraws, the target's program leaves before it has seen the socket, the source is closed. The steps are named as on the diagnostics channel \`TRACE_CHANNEL\`,
except for these: \`done-sent\` and \`done-received\` are \`done\` there, \`withdraw-received\` is the target's \`withdrawn\`,
\`leave-received\` is the source's \`left\`, and \`ready-sent\`, \`taken-sent\` and \`end-sent\` are frames that leave.`;

const FRAMES = `## Frames

| fault | what is done |
| --- | --- |
| truncate frame | the frame is cut anywhere, and its connection is closed there |
| duplicate frame | it arrives twice |
| flip head | one byte in front of the sequence number is another |
| flip sequence | one byte of it is another |
| flip length | the highest byte of it is another: the frame announces more than any has |
| raise length | the frame announces 1 to 1000 bytes more than it has |
| flip payload | one byte of the payload is another: of the target's process id in HELLO, of the length of the blob in OFFER, any in READY and REJECT |

A frame has no checksum: what is flipped is noticed because it makes no sense. The sequence numbers of HELLO, READY, LEAVE and
END are not used. \`data\` and initial bytes travel as they are, and a flip in them is not noticed. With several sockets in
flight a flipped sequence number may be another one's, which is not shown here.`;

const LISTENERS = `## Shared listeners

A source shares a listener, and the target accepts on it; then the source has it stop for now, accept again, or stop for good.
The same faults come at the steps of that. The outcome is what \`shareListener\`, \`pause\`, \`resume\` or \`stop\` told its caller:
\`accepts\`, \`paused\`, \`resumed\` or \`stopped\`, or the outcome of the \`HandoffError\`. \`timeout\` means that the target may still
accept. **The process behind the arrow answers the next connection.** For the steps up to \`accepting-received\`, and for those
of \`resume\`, that connection was in the backlog before; for the others it comes after the fault. The source accepts it when it
knows that the target does not: it was told so, or the target has ended. \`no process\` means that no process has the listener any
more, or that the process that had accepted the connection was killed. In every cell the test sees that

* a target does not accept after the caller was told that it has paused or stopped;
* a connection that the target had accepted before is served to its end, unless the target was killed;
* a connection that waits is lost only with the last process that has the listener;
* every process that lives has the descriptors it had before, once the channel has ended.

Where two ends are named, either process may be first: a connection that waits is accepted as soon as a target accepts, and a
fault may come just before or just after that. COUNTS leaves on its own, before or after PAUSE. On Windows a thread of a target
that is frozen may be in \`accept\`, and gets the next connection.`;

/** The cells of the page, by the names of {@linkcode cellName}. */
export type Cells = ReadonlyMap<string, string>;

export function renderPage(cells: Cells): string {
  const afterSteps = (steps: readonly Step[]) =>
    steps.map((step) => [
      `\`${step.name}\` ${step.what} (${step.side})`,
      ...PROCESS_FAULTS.map((fault) => cell(cells, step, fault)),
    ]);
  const frames = STEPS.flatMap((step) => {
    return "frame" in step.on ? [[step.on.frame, ...FRAME_FAULTS.map((fault) => cell(cells, step, fault))]] : [];
  });
  const ofListeners = LISTENER_STEPS.flatMap((step) => {
    if (!("frame" in step.on)) return [];
    return [[`\`${step.name}\` ${step.on.frame}`, ...FRAME_FAULTS.map((fault) => cell(cells, step, fault))]];
  });
  return [
    INTRODUCTION,
    PROCESSES,
    table(["after", ...PROCESS_FAULTS], afterSteps(STEPS)),
    FRAMES,
    table(["frame", ...FRAME_FAULTS], frames),
    LISTENERS,
    table(["after", ...PROCESS_FAULTS], afterSteps(LISTENER_STEPS)),
    table(["frame", ...FRAME_FAULTS], ofListeners),
  ].join("\n\n") + "\n";
}

function cell(cells: Cells, step: Step, fault: Fault): string {
  if (!exists(step, fault)) return NONE;
  return cells.get(cellName({ step: step.name, fault })) ?? "?";
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
  const step = STEPS.find(({ on }) => "frame" in on && first === on.frame) ??
    [...STEPS, ...LISTENER_STEPS].find(({ name }) => first.startsWith(`\`${name}\``));
  if (step === undefined) return;
  for (const [index, value] of values.entries()) {
    if (value === NONE) continue;
    cells.set(cellName({ step: step.name, fault: header[index] as Fault }), value);
  }
}
