/** How programs are run: a few lines in a process of their own, and the arguments of a task. */
import { RUN } from "./process.ts";

/** The output of code that runs with the given grants and nothing else. */
export async function runCode(code: string, ...grants: string[]): Promise<string> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [...RUN, ...grants, "-"],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(code));
  await writer.close();
  const { stdout, stderr } = await child.output();
  return (new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr)).replaceAll("\r\n", "\n").trim();
}

/** The URL of a module of the project, for code that imports it. */
export function moduleUrl(path: string): string {
  return JSON.stringify(new URL(`../../${path}`, import.meta.url).href);
}

/** The arguments of this program. `deno task NAME -- ARGS` passes `--` on, which would make all that follow names. */
export function taskArguments(): string[] {
  return Deno.args[0] === "--" ? Deno.args.slice(1) : [...Deno.args];
}
