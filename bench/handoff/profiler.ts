/**
 * V8's sampling profiler within the process that is measured, for `--profile`: it works under Wine too.
 *
 * @module
 */
import inspector from "node:inspector";

/** Takes one profile; without `--profile` it does nothing. */
export interface Profiler {
  /** Starts it, or stops it and prints its table to stderr. */
  toggle(): Promise<void>;
}

interface ProfileNode {
  readonly id: number;
  readonly children?: readonly number[];
  readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
}

interface Profile {
  readonly nodes: readonly ProfileNode[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

const LINES = 25;

/**
 * @param role How the table is headed.
 * @returns The profiler, stopped.
 */
export function profiler(role: string): Profiler {
  if (!Deno.args.includes("--profile")) return { toggle: () => Promise.resolve() };
  const session = new inspector.Session();
  session.connect();
  const post = (method: string) => {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    // deno-lint-ignore no-explicit-any -- Node's type names every method
    (session as any).post(method, (error: Error | null, result: unknown) => error ? reject(error) : resolve(result));
    return promise;
  };
  let running = false;
  return {
    async toggle() {
      if (!running) {
        running = true;
        await post("Profiler.enable");
        await post("Profiler.start");
      } else {
        running = false;
        const { profile } = await post("Profiler.stop") as { profile: Profile };
        console.error(table(role, profile));
      }
    },
  };
}

/** The functions in which the most time went, their callees' not counted. */
function table(role: string, { nodes, samples, timeDeltas }: Profile): string {
  const names = new Map(nodes.map((node) => [node.id, nameOf(node)]));
  // A native function has no name, as those of a foreign library have none: its caller says what it is.
  for (const { id, children = [] } of nodes) {
    for (const child of children) if (names.get(child) === "") names.set(child, `native call in ${names.get(id)}`);
  }
  const times = new Map<string, number>();
  let total = 0;
  samples.forEach((id, index) => {
    const name = names.get(id) ?? "?";
    // A sample's time is what passes until the next one.
    const microseconds = timeDeltas[index + 1] ?? 0;
    times.set(name, (times.get(name) ?? 0) + microseconds);
    total += microseconds;
  });
  const rows = [...times].sort((a, b) => b[1] - a[1]).slice(0, LINES);
  const lines = rows.map(([name, time]) => `${(time / total * 100).toFixed(1).padStart(6)} %  ${name}`);
  return [`\n${role}: self time of ${(total / 1e6).toFixed(1)} s`, ...lines].join("\n");
}

function nameOf({ callFrame: { functionName, url, lineNumber } }: ProfileNode): string {
  const file = url.replace(/^.*[/\\]/, "");
  return file === "" ? functionName : `${functionName || "(anonymous)"} ${file}:${lineNumber + 1}`;
}
