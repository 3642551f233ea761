/**
 * Linux: this library against `subprocess.send` of Node, Bun and Deno.
 *
 * Deno's is run by the very binary that runs this library. Nothing is pinned.
 *
 * @module
 */
import { type Contestant, gather, type Lane, OURS, type StartOptions, Unavailable } from "./lane.ts";
import { bunProgram, nodeProgram } from "./packages.ts";
import { FFI_GRANT, RUN } from "./ours_child.ts";

/** Prepares the lane. */
export async function linuxLane(): Promise<Lane> {
  if (Deno.build.os !== "linux") throw new Unavailable(`the client is written for Linux, and this is ${Deno.build.os}`);
  const { contestants, missing } = await gather({
    ours: () => command(OURS, Deno.execPath(), oursArgs("ours_source.ts")),
    node: async () => command("Node send", await nodeProgram(), [path("send_source.mjs")]),
    bun: async () => command("Bun send", await bunProgram(), [path("send_source.mjs")]),
    deno: () => command("Deno send", Deno.execPath(), ["run", "--quiet", "--allow-all", path("send_source.mjs")]),
  });
  return {
    name: "Linux",
    note: "source, target and client share the CPUs, unpinned",
    contestants,
    channel: [command(OURS, Deno.execPath(), oursArgs("channel_source.ts"))],
    missing,
    clientUnder: [],
  };
}

/** The arguments of a source of this library: the grants its documentation names, and the control connection's. */
export function oursArgs(script: string): string[] {
  return [...RUN, FFI_GRANT, "--allow-run", "--allow-net=127.0.0.1", path(script)];
}

function command(name: string, program: string, args: string[]): Contestant {
  return {
    name,
    start: (controlPort: number, options: StartOptions) =>
      new Deno.Command(program, {
        args: [...args, String(controlPort), ...options.args],
        stdin: "null",
        stdout: "null",
        stderr: options.stderr,
      }),
  };
}

function path(script: string): string {
  return new URL(script, import.meta.url).pathname;
}
