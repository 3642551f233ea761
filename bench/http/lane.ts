/**
 * Where the benchmark's servers run: in this Deno, or in the Windows build.
 *
 * @module
 */
import { windowsPrograms, WINE_DENO } from "../../tools/windows.ts";

/** Wine ends with the last of its programs, and would take along what is started meanwhile. */
const WINE_REST_MS = 1_000;

/** A server and its port. */
export interface ServerProcess extends AsyncDisposable {
  readonly port: number;
}

/** Starts a script of this project that prints its port. */
export type Start = (script: string, ...args: string[]) => Promise<ServerProcess>;

/**
 * Prepares a lane.
 *
 * @throws {RangeError} If there is none of that name.
 * @throws {LaneUnavailable} If this machine cannot have it.
 */
export async function openLane(name: string): Promise<Start> {
  const project = new URL("../..", import.meta.url);
  switch (name) {
    case "linux":
      return (script, ...args) =>
        begin(new Deno.Command(Deno.execPath(), { args: run(script, args), cwd: project, stdout: "piped" }), 0);
    case "windows": {
      const program = await windowsPrograms();
      return (script, ...args) => begin(program([WINE_DENO, ...run(script, args)], { stdout: "piped" }), WINE_REST_MS);
    }
    default:
      throw new RangeError(`There is no ${name} lane`);
  }
}

function run(script: string, args: string[]): string[] {
  return ["run", "--quiet", "--allow-all", "--no-check", script, ...args];
}

async function begin(command: Deno.Command, restMs: number): Promise<ServerProcess> {
  const child = command.spawn();
  const reader = child.stdout.getReader();
  const { value } = await reader.read();
  return {
    port: Number(new TextDecoder().decode(value)),
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await reader.cancel();
      await child.status;
      await new Promise((resolve) => setTimeout(resolve, restMs));
    },
  };
}
