/**
 * Running tests in a folder, and what came of it.
 *
 * @module
 */
import type { Tree } from "../../tools/copy.ts";

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
 * @param tree A copy of the project.
 * @param limit How long the run may take, in milliseconds; then it is ended.
 */
export async function runTests(tree: Tree, { files, filter, lane }: Tests, limit: number): Promise<Outcome> {
  const report = `${tree.folder}/${REPORT}`;
  await Deno.remove(report).catch(() => {});
  const filters = filter === undefined ? [] : [`--filter=${filter}`];
  const args = ["test", "-A", "--no-check", "--quiet", "--fail-fast", `--junit-path=${REPORT}`, ...filters, ...files];
  const underWine = lane === "windows";
  const deno = [Deno.execPath(), ...underWine ? ["task", "--quiet", "windows", ...args] : args];
  const began = performance.now();
  const streams = { stdin: "null", stdout: "null", stderr: "null" } as const;
  const child = tree.command(deno, streams, underWine).spawn();
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
