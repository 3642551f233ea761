/**
 * Runs the tests in both lanes: on the system this is, and with the Windows build of Deno. The last line says how many
 * passed and failed in both together.
 *
 *     deno task test [--lane native|windows] [FILTER]
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { buildNativeLibrary } from "./native_library.ts";
import { LaneUnavailable, windowsLane } from "./windows.ts";

interface Counts {
  passed: number;
  failed: number;
}

const PROJECT = new URL("..", import.meta.url);
const options = parseArgs(Deno.args, { string: ["lane"] });
const filter = options._.length > 0 ? [`--filter=${options._[0]}`] : [];

Deno.chdir(PROJECT);
await Deno.mkdir(".cache", { recursive: true });

const counts: Counts = { passed: 0, failed: 0 };
if (options.lane !== "windows") {
  await buildFor(Deno.build.os === "windows" ? "windows" : "linux");
  add(await runLane(Deno.build.os, (args) => new Deno.Command(Deno.execPath(), { args })));
}
if (options.lane !== "native" && Deno.build.os !== "windows") {
  try {
    const lane = await windowsLane();
    await buildFor("windows");
    add(await runLane("windows", lane));
  } catch (error) {
    if (!(error instanceof LaneUnavailable)) throw error;
    console.log(`The Windows lane cannot run here: ${error.message}`);
    if (Deno.env.get("CI") !== undefined) counts.failed++;
  }
}
console.log(`\n${counts.passed} passed, ${counts.failed} failed`);
Deno.exit(counts.failed === 0 && counts.passed > 0 ? 0 : 1);

function add({ passed, failed }: Counts): void {
  counts.passed += passed;
  counts.failed += failed;
}

/** Builds the C provider of the tests; without it they are left out, which CI does not accept. */
async function buildFor(system: "linux" | "windows"): Promise<void> {
  const missing = await buildNativeLibrary(system);
  if (missing === undefined) return;
  console.log(`The tests with a C provider are left out for ${system}: ${missing}`);
  if (Deno.env.get("CI") !== undefined) counts.failed++;
}

/** Runs the tests of one lane and counts them; a run that fails otherwise, or runs none, counts as one failure. */
async function runLane(name: string, deno: (args: string[]) => Deno.Command): Promise<Counts> {
  const report = `.cache/${name}.xml`;
  await Deno.remove(report).catch(() => {});
  console.log(`\n== ${name} lane`);
  const started = performance.now();
  const args = ["test", "--quiet", "--allow-all", "--no-check", `--junit-path=${report}`, ...filter, "tests"];
  const { code } = await deno(args).spawn().status;
  const lane = countReport(await Deno.readTextFile(report).catch(() => ""));
  if (lane.failed === 0 && (code !== 0 || lane.passed === 0)) lane.failed = 1;
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  console.log(`== ${name} lane: ${lane.passed} passed, ${lane.failed} failed in ${seconds} s`);
  return lane;
}

function countReport(xml: string): Counts {
  const attribute = (name: string) => Number(new RegExp(`<testsuites [^>]*\\b${name}="(\\d+)"`).exec(xml)?.[1] ?? 0);
  const failed = attribute("failures") + attribute("errors");
  const skipped = xml.match(/<skipped\b/g)?.length ?? 0;
  return { passed: attribute("tests") - failed - skipped, failed };
}
