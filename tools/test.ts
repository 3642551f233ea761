/**
 * Runs the tests in both lanes at once: on the system this is, and with the Windows build of Deno. The last line says how
 * many passed and failed in both together.
 *
 *     deno task test [--lane native|windows] [FILTER]
 *
 * A lane that takes more than 25 minutes, or as many as `LANE_TIMEOUT_MINUTES` says, is ended, and counts as one failure:
 * the test named last is the one that ran.
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
  /** Makes the command that runs Deno in it. */
  command(args: string[], options?: CommandStreams): Deno.Command;
  /** Ends what of it does not end with the tests, and their processes. */
  end?(): Promise<void>;
}

const PROJECT = new URL("..", import.meta.url);
/** A lane's own limit: what runs all of it has none that leaves a report. */
const LIMIT_MINUTES = Number(Deno.env.get("LANE_TIMEOUT_MINUTES") ?? 25);
/** How long what has outlived its lane may keep the lane's output open, in milliseconds. */
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

/** Fetches what the tests of a lane run besides Deno; without it they are left out, which CI does not accept. */
async function prepare(lane: "native" | "windows"): Promise<void> {
  for (const missing of await setUpTests(lane)) {
    console.log(`Some tests of the ${lane} lane are left out: ${missing}`);
    if (Deno.env.get("CI") !== undefined) counts.failed++;
  }
}

/**
 * Runs the tests of one lane and counts them; a run that fails otherwise, or runs none, counts as one failure. What it
 * prints is kept back until the lane before it has ended.
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

/** Ends a lane that takes too long, and its output a little later. */
async function endLane(lane: Lane, child: Deno.ChildProcess, output: AbortController): Promise<void> {
  try {
    // When its children end it must not go on to the next test.
    if (Deno.build.os !== "windows") child.kill("SIGSTOP");
    await killTree(child);
    await lane.end?.();
  } catch (error) {
    console.error(`The ${lane.name} lane does not end: ${error}`);
  }
  setTimeout(() => output.abort(), LAST_OUTPUT_MS);
}

/** The same, read as fast as it comes, until it ends or is cut off. What was read until then stays to be read. */
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
