/**
 * Running tests in a folder, and what came of it.
 *
 * @module
 */
import { CACHE } from "./tree.ts";

/** Which tests. */
export interface Tests {
  /** Test files, by their paths from the project's folder. */
  readonly files: readonly string[];
  /** Runs those only whose names contain this, where all would take long. */
  readonly filter?: string;
  /** With which Deno. Default `native`. */
  readonly lane?: "native" | "windows";
}

/** How a run went. */
export interface Outcome {
  readonly passed: number;
  /** Names of the tests that failed; the first failure ends a run. */
  readonly failed: readonly string[];
  readonly timedOut: boolean;
  readonly seconds: number;
}

const REPORT = "report.xml";

/**
 * Runs tests until the first one fails.
 *
 * @param folder A copy of the project.
 * @param limit How long the run may take, in milliseconds; then it is ended.
 */
export async function runTests(folder: string, { files, filter, lane }: Tests, limit: number): Promise<Outcome> {
  const report = `${folder}/${REPORT}`;
  await Deno.remove(report).catch(() => {});
  const filters = filter === undefined ? [] : [`--filter=${filter}`];
  const args = ["test", "-A", "--no-check", "--quiet", "--fail-fast", `--junit-path=${REPORT}`, ...filters, ...files];
  const underWine = lane === "windows";
  const deno = [Deno.execPath(), ...underWine ? ["task", "--quiet", "windows", ...args] : args];
  const began = performance.now();
  const child = command(folder, deno, underWine).spawn();
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill("SIGKILL");
  }, limit);
  await child.status;
  clearTimeout(timer);
  const seconds = (performance.now() - began) / 1000;
  return { ...readReport(await Deno.readTextFile(report).catch(() => "")), timedOut, seconds };
}

/**
 * A test that fails may leave processes behind. As root each run has namespaces of its own, and what is left goes with
 * them; Wine needs them to have the project's cache in the copy, for it follows no link out of it.
 */
function command(cwd: string, program: string[], needsCache: boolean): Deno.Command {
  const options: Deno.CommandOptions = { cwd, stdin: "null", stdout: "null", stderr: "null" };
  if (Deno.uid() !== 0) return new Deno.Command(program[0]!, { ...options, args: program.slice(1) });
  // The shell stays, for the first process of a namespace is to be none of the tests'.
  const script = `${needsCache ? 'mount --bind "$0" .cache &&' : ""} "$@"; exit $?`;
  const namespaces = ["--mount", "--mount-proc", "--pid", "--fork", "--kill-child", "--propagation", "private"];
  const args = [...namespaces, "sh", "-c", script, CACHE, ...program];
  return new Deno.Command("unshare", { ...options, args });
}

/** What the report in JUnit's format says; nothing if there is none, since the run broke off or a module is none. */
function readReport(xml: string): Pick<Outcome, "passed" | "failed"> {
  const failed: string[] = [];
  let passed = 0;
  for (const [, name, rest] of xml.matchAll(/<testcase name="([^"]*)"(.*?)(?=<testcase |<\/testsuite>)/gs)) {
    if (/<(failure|error)\b/.test(rest!)) failed.push(unescape(name!));
    else if (!rest!.includes("<skipped")) passed++;
  }
  return { passed, failed };
}

const ENTITIES: Readonly<Record<string, string>> = { quot: '"', apos: "'", lt: "<", gt: ">", amp: "&" };

function unescape(text: string): string {
  return text.replace(/&(\w+);/g, (entity, name) => ENTITIES[name] ?? entity);
}
