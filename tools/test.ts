/**
 * Runs the tests of both lanes at once: on this system, and with the Windows build of Deno. The last line has the
 * numbers of tests that passed and failed in both lanes.
 *
 *     deno task test [--lane native|windows] [FILTER]
 *
 * A lane that takes more than 40 minutes, or `LANE_TIMEOUT_MINUTES`, is ended and counts as one failure. The last test
 * that it printed is the one that was running.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { bundlePrograms } from "./bundles.ts";
import { killTree } from "./process_tree.ts";
import { setUpTests } from "./test_setup.ts";
import { type CommandStreams, endWindows, LaneUnavailable, windowsLane } from "./windows.ts";

interface Counts {
  passed: number;
  failed: number;
}

interface Lane {
  readonly name: string;
  /** Returns the command that runs Deno in the lane. */
  command(args: string[], options?: CommandStreams): Deno.Command;
  /** Ends the processes of the lane that do not end with the tests. */
  end?(): Promise<void>;
}

const PROJECT = new URL("..", import.meta.url);
/** The time limit of a lane, in minutes. A limit for the whole run would not leave a report. */
const LIMIT_MINUTES = Number(Deno.env.get("LANE_TIMEOUT_MINUTES") ?? 40);
/** The time that processes which outlive their lane may keep its output open, in milliseconds. */
const LAST_OUTPUT_MS = 5_000;
const options = parseArgs(Deno.args, { string: ["lane"] });
const filter = options._.length > 0 ? [`--filter=${options._[0]}`] : [];

Deno.chdir(PROJECT);
await Deno.mkdir(".cache", { recursive: true });
await bundlePrograms();

const counts: Counts = { passed: 0, failed: 0 };
let native: Promise<void> | undefined;
if (options.lane !== "windows") {
  await prepare("native");
  native = runLane({
    name: Deno.build.os,
    command: (args, options) => new Deno.Command(Deno.execPath(), { ...options, args }),
  });
}
if (options.lane !== "native" && Deno.build.os !== "windows") {
  try {
    const command = await windowsLane();
    await prepare("windows");
    await runLane({ name: "windows", command, end: endWindows }, native);
  } catch (error) {
    if (!(error instanceof LaneUnavailable)) throw error;
    await native;
    console.log(`The Windows lane cannot run here: ${error.message}`);
    if (Deno.env.get("CI") !== undefined) counts.failed++;
  }
}
await native;
console.log(`\n${counts.passed} passed, ${counts.failed} failed`);
Deno.exit(counts.failed === 0 && counts.passed > 0 ? 0 : 1);

/**
 * Fetches the programs that the tests of a lane run besides Deno. Without them, tests are skipped, which fails in CI.
 */
async function prepare(lane: "native" | "windows"): Promise<void> {
  for (const missing of await setUpTests(lane)) {
    console.log(`Some tests of the ${lane} lane are left out: ${missing}`);
    if (Deno.env.get("CI") !== undefined) counts.failed++;
  }
}

/**
 * Runs the tests of one lane and counts them. A run that fails in another way, or does not run any tests, counts as one
 * failure. Its output is shown when the lane before it has ended.
 */
async function runLane(lane: Lane, before: Promise<void> = Promise.resolve()): Promise<void> {
  const { name } = lane;
  const report = `.cache/${name}.xml`;
  await Deno.remove(report).catch(() => {});
  const started = performance.now();
  const args = ["test", "--quiet", "--allow-all", "--no-check", `--junit-path=${report}`, ...filter, "tests"];
  const child = lane.command(args, { stdout: "piped", stderr: "piped" }).spawn();
  const cut = new AbortController();
  let late = false;
  const limit = setTimeout(() => {
    late = true;
    endLane(lane, child, cut);
  }, LIMIT_MINUTES * 60_000);
  const [stdout, stderr] = [child.stdout, child.stderr].map((stream) => unbounded(stream, cut.signal));
  const ended = child.status.then(({ code }) => {
    clearTimeout(limit);
    return { code, seconds: (performance.now() - started) / 1000 };
  });
  await before;
  console.log(`\n== ${name} lane`);
  await Promise.all([print(stdout!, Deno.stdout), print(stderr!, Deno.stderr)]);
  const { code, seconds } = await ended;
  if (late) console.log(`\n== ${name} lane: ended after ${LIMIT_MINUTES} minutes, in the test named last`);
  const { passed, failed } = countReport(await Deno.readTextFile(report).catch(() => ""));
  const failures = failed === 0 && (late || code !== 0 || passed === 0) ? 1 : failed;
  console.log(`== ${name} lane: ${passed} passed, ${failures} failed in ${seconds.toFixed(0)} s`);
  counts.passed += passed;
  counts.failed += failures;
}

/** Ends a lane that takes too long, and closes its output a little later. */
async function endLane(lane: Lane, child: Deno.ChildProcess, output: AbortController): Promise<void> {
  try {
    // The lane must not continue with the next test when its children end.
    if (Deno.build.os !== "windows") child.kill("SIGSTOP");
    await killTree(child);
    await lane.end?.();
  } catch (error) {
    console.error(`The ${lane.name} lane does not end: ${error}`);
  }
  setTimeout(() => output.abort(), LAST_OUTPUT_MS);
}

/**
 * Returns the same stream, read as fast as possible until it ends or is cut off. The data that was read stays
 * available.
 */
function unbounded(stream: ReadableStream<Uint8Array>, cut: AbortSignal): ReadableStream<Uint8Array> {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>({}, undefined, {
    highWaterMark: Infinity,
  });
  const reader = stream.getReader();
  cut.addEventListener("abort", () => reader.cancel());
  const writer = writable.getWriter();
  (async () => {
    for (let read = await reader.read(); !read.done; read = await reader.read()) await writer.write(read.value);
    await writer.close();
  })().catch((error) => writer.abort(error));
  return readable;
}

function print(stream: ReadableStream<Uint8Array>, { writable }: typeof Deno.stdout | typeof Deno.stderr) {
  return stream.pipeTo(writable, { preventClose: true });
}

function countReport(xml: string): Counts {
  const attribute = (name: string) => Number(new RegExp(`<testsuites [^>]*\\b${name}="(\\d+)"`).exec(xml)?.[1] ?? 0);
  const failed = attribute("failures") + attribute("errors");
  const skipped = xml.match(/<skipped\b/g)?.length ?? 0;
  return { passed: attribute("tests") - failed - skipped, failed };
}
