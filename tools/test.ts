/**
 * Runs the tests of both lanes at once: on this system, and with the Windows build of Deno. The last line has the
 * numbers of tests that passed and failed in both lanes.
 *
 *     deno task test [--lane native|windows] [--jobs N] [--preload MODULE] [FILTER | FILE…]
 *
 * A lane runs its test files in batches, and two batches at the same time (`--jobs`), each in its own process: most
 * tests wait, and each may use its process as if it were alone. `.cache/reports` has a report of each batch, in JUnit's
 * format, with the time of each test.
 *
 * A batch that fails is run once more at the end of its lane, and the second run counts. If more than four batches of a
 * lane fail, or with a FILTER, none is run again. The end of the output names each test that failed, and why: a test that
 * passed only when it was run again depends on time and needs mending. With `--preload`, each process of the tests loads
 * that module first.
 *
 * A lane that takes more than 40 minutes, or `LANE_TIMEOUT_MINUTES`, is ended and counts as one failure. The last test
 * that it printed is the one that was running.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { bundlePrograms } from "./bundles.ts";
import { killTree } from "./process_tree.ts";
import { parseTestReport, type TestFailure, type TestResults } from "./test_report.ts";
import { setUpTests } from "./test_setup.ts";
import { type CommandStreams, endWindows, LaneUnavailable, windowsLane } from "./windows.ts";

interface Counts {
  passed: number;
  failed: number;
}

interface Lane {
  readonly name: string;
  /** Returns the command that runs Deno in the lane. Jobs that run at the same time have different numbers. */
  command(args: string[], options: CommandStreams, job: number): Deno.Command;
  /** Ends the processes of the lane that do not end with the tests. */
  end?(): Promise<void>;
}

const PROJECT = new URL("..", import.meta.url);
const REPORTS = ".cache/reports";
/** The time limit of a lane, in minutes. A limit for the whole run would not leave a report. */
const LIMIT_MINUTES = Number(Deno.env.get("LANE_TIMEOUT_MINUTES") ?? 40);
/** The time that processes which outlive their lane may keep its output open, in milliseconds. */
const LAST_OUTPUT_MS = 5_000;
/**
 * The number of test files in a batch. With fewer files, more time is spent on starting Deno; with more, on waiting for
 * the last batch.
 */
const BATCH = 6;
/**
 * The most batches of a lane that are run again if they fail, once, without other batches of the lane beside them. On a
 * machine that other programs keep busy, a test may miss a time limit. More failures are not about time.
 */
const MAX_REPEATED = 4;
/** The number of lines of an error that the list of failures shows. The rest is in the output of the tests. */
const SHOWN_LINES = 6;
const options = parseArgs(Deno.args, { string: ["lane", "jobs", "preload"] });
const jobs = Number(options.jobs ?? Math.min(2, navigator.hardwareConcurrency));
if (!Number.isInteger(jobs) || jobs < 1) {
  throw new RangeError(`Invalid \`--jobs\`: must be 1 or more, got ${options.jobs}`);
}
const positional: string[] = options._.map(String);
const chosen = positional.filter((name) => name.endsWith("_test.ts"));
const filter = positional.filter((name) => !chosen.includes(name)).slice(0, 1).map((name) => `--filter=${name}`);
const preload = options.preload === undefined ? [] : [`--preload=${options.preload}`];

Deno.chdir(PROJECT);
await Deno.mkdir(REPORTS, { recursive: true });
await bundlePrograms();

const counts: Counts = { passed: 0, failed: 0 };
/** What failed in both lanes, as the end of the output lists it. */
const failures: string[] = [];
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
    const command = await windowsLane(jobs);
    await prepare("windows");
    await runLane({ name: "windows", command, end: () => endWindows(jobs) }, native);
  } catch (error) {
    if (!(error instanceof LaneUnavailable)) throw error;
    await native;
    console.log(`The Windows lane cannot run here: ${error.message}`);
    if (Deno.env.get("CI") !== undefined) counts.failed++;
  }
}
await native;
if (failures.length > 0) console.log(`\n== what failed\n${failures.join("\n")}`);
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
 * Runs the tests of one lane and counts them. A batch that fails without a failed test, and a lane that does not run any
 * tests, counts as one failure. The output of each batch is shown when the batch before it has ended, and that of the
 * lane when the lane before it has ended.
 */
async function runLane(lane: Lane, before: Promise<void> = Promise.resolve()): Promise<void> {
  const { name } = lane;
  const started = performance.now();
  const batches = await testBatches();
  const running = new Set<Deno.ChildProcess>();
  const cut = new AbortController();
  const results: TestResults[] = batches.map(() => ({ passed: 0, failures: [] }));
  let late = false;
  const limit = setTimeout(() => {
    late = true;
    endLane(lane, running, cut);
  }, LIMIT_MINUTES * 60_000);
  let shown = before.then(() => console.log(`\n== ${name} lane`));

  async function runBatch(index: number, job: number): Promise<void> {
    const files = batches[index]!;
    const report = `${REPORTS}/${name}-${String(index).padStart(2, "0")}.xml`;
    await Deno.remove(report).catch(() => {});
    const args = [
      "test",
      "--quiet",
      "--allow-all",
      "--no-check",
      `--junit-path=${report}`,
      ...preload,
      ...filter,
      ...files,
    ];
    const child = lane.command(args, { stdout: "piped", stderr: "piped" }, job).spawn();
    running.add(child);
    const [stdout, stderr] = [child.stdout, child.stderr].map((stream) => unbounded(stream, cut.signal));
    shown = shown.then(async () => {
      await Promise.all([print(stdout!, Deno.stdout), print(stderr!, Deno.stderr)]);
    });
    const { code } = await child.status;
    running.delete(child);
    const result = parseTestReport(await Deno.readTextFile(report).catch(() => "<none/>"));
    const ended = code !== 0 && result.failures.length === 0 && !late;
    const failure = { file: files[0]!, test: "or another file of its batch", message: `ended with exit code ${code}` };
    results[index] = ended ? { ...result, failures: [failure] } : result;
  }

  const queue = batches.keys();
  await Promise.all(Array.from({ length: jobs }, async (_, job) => {
    for (const index of queue) {
      if (late) break;
      await runBatch(index, job);
    }
  }));
  const repeated = [...batches.keys()].filter((index) => results[index]!.failures.length > 0);
  const first = repeated.flatMap((index) => results[index]!.failures);
  if (repeated.length <= MAX_REPEATED && filter.length === 0 && !late) {
    for (const index of repeated) {
      const files = batches[index]!.join(", ");
      shown = shown.then(() => console.log(`\n== ${name} lane: once more, without others beside them: ${files}`));
      await runBatch(index, 0);
    }
  }
  clearTimeout(limit);
  const seconds = (performance.now() - started) / 1000;
  await shown;
  const failed = results.flatMap(({ failures }) => failures);
  const total = { passed: results.reduce((sum, { passed }) => sum + passed, 0), failed: failed.length };
  const still = new Set(failed.map(({ file, test }) => `${file} ${test}`));
  list(name, failed);
  list(`${name}, passed when run again`, first.filter(({ file, test }) => !still.has(`${file} ${test}`)));
  if (late) console.log(`\n== ${name} lane: ended after ${LIMIT_MINUTES} minutes, in the tests named last`);
  if (late || total.passed === 0) total.failed = Math.max(total.failed, 1);
  console.log(`== ${name} lane: ${total.passed} passed, ${total.failed} failed in ${seconds.toFixed(0)} s`);
  counts.passed += total.passed;
  counts.failed += total.failed;
}

/** Adds tests that failed to the list at the end of the output. */
function list(lane: string, failed: readonly TestFailure[]): void {
  for (const { file, test, message } of failed) {
    const lines = message.split("\n").slice(0, SHOWN_LINES).map((line) => `    ${line}`);
    failures.push([`${lane}: ${file}: ${test}`, ...lines].join("\n"));
  }
}

/** Returns the test files in batches; in one if a filter leaves few tests, because starting Deno takes longer then. */
async function testBatches(): Promise<string[][]> {
  const files = chosen.length > 0 ? chosen : await testFiles();
  const size = filter.length > 0 ? files.length : BATCH;
  return Array.from({ length: Math.ceil(files.length / size) }, (_, at) => files.slice(at * size, (at + 1) * size));
}

async function testFiles(): Promise<string[]> {
  const files: string[] = [];
  for await (const folder of Deno.readDir("tests")) {
    if (!folder.isDirectory) continue;
    for await (const { name } of Deno.readDir(`tests/${folder.name}`)) {
      if (name.endsWith("_test.ts")) files.push(`tests/${folder.name}/${name}`);
    }
  }
  return files.sort();
}

/** Ends a lane that takes too long, and closes its output a little later. */
async function endLane(lane: Lane, running: Iterable<Deno.ChildProcess>, output: AbortController): Promise<void> {
  try {
    for (const child of running) {
      // It must not continue with the next test when its children end.
      if (Deno.build.os !== "windows") child.kill("SIGSTOP");
      await killTree(child);
    }
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
