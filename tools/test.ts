/**
 * Runs the tests in both lanes at once: on the system this is, and with the Windows build of Deno. The last line says how
 * many passed and failed in both together.
 *
 *     deno task test [--lane native|windows] [FILTER]
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { bundlePrograms } from "./bundles.ts";
import { setUpTests } from "./test_setup.ts";
import { type CommandStreams, LaneUnavailable, windowsLane } from "./windows.ts";

interface Counts {
  passed: number;
  failed: number;
}

/** Makes the command that runs Deno in a lane. */
type Lane = (args: string[], options?: CommandStreams) => Deno.Command;

const PROJECT = new URL("..", import.meta.url);
const options = parseArgs(Deno.args, { string: ["lane"] });
const filter = options._.length > 0 ? [`--filter=${options._[0]}`] : [];

Deno.chdir(PROJECT);
await Deno.mkdir(".cache", { recursive: true });
await bundlePrograms();

const counts: Counts = { passed: 0, failed: 0 };
let native: Promise<void> | undefined;
if (options.lane !== "windows") {
  await prepare("native");
  native = runLane(Deno.build.os, (args, options) => new Deno.Command(Deno.execPath(), { ...options, args }));
}
if (options.lane !== "native" && Deno.build.os !== "windows") {
  try {
    const windows = await windowsLane();
    await prepare("windows");
    await runLane("windows", windows, native);
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
async function runLane(name: string, lane: Lane, before: Promise<void> = Promise.resolve()): Promise<void> {
  const report = `.cache/${name}.xml`;
  await Deno.remove(report).catch(() => {});
  const started = performance.now();
  const args = ["test", "--quiet", "--allow-all", "--no-check", `--junit-path=${report}`, ...filter, "tests"];
  const child = lane(args, { stdout: "piped", stderr: "piped" }).spawn();
  const [stdout, stderr] = [child.stdout, child.stderr].map(unbounded);
  const ended = child.status.then(({ code }) => ({ code, seconds: (performance.now() - started) / 1000 }));
  await before;
  console.log(`\n== ${name} lane`);
  await Promise.all([print(stdout!, Deno.stdout), print(stderr!, Deno.stderr)]);
  const { code, seconds } = await ended;
  const { passed, failed } = countReport(await Deno.readTextFile(report).catch(() => ""));
  const failures = failed === 0 && (code !== 0 || passed === 0) ? 1 : failed;
  console.log(`== ${name} lane: ${passed} passed, ${failures} failed in ${seconds.toFixed(0)} s`);
  counts.passed += passed;
  counts.failed += failures;
}

/** The same, read as fast as it comes. */
function unbounded(stream: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> {
  return stream.pipeThrough(new TransformStream({}, undefined, { highWaterMark: Infinity }));
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
