/**
 * Linux: this library against `subprocess.send` of Node, Bun and Deno.
 *
 * Deno's is run by the very binary that runs this library. Nothing is pinned.
 *
 * @module
 */
import { type Contestant, gather, type Lane, OURS, type StartOptions, Unavailable } from "./lane.ts";
import { npmFile } from "./packages.ts";
import { FFI_GRANT, RUN } from "./ours_child.ts";

const BUN_VERSION = "1.4.5";
/** Where the machine has none. */
const NODE_VERSION = "26.10.0";

/** Prepares the lane. */
export async function linuxLane(): Promise<Lane> {
  if (Deno.build.os !== "linux") throw new Unavailable(`the client is written for Linux, and this is ${Deno.build.os}`);
  const { contestants, missing } = await gather({
    ours: () => command(OURS, Deno.execPath(), oursArgs("ours_source.ts")),
    node: async () => command("Node send", await node(), [path("send_source.mjs")]),
    bun: async () => command("Bun send", await bun(), [path("send_source.mjs")]),
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

/** The machine's Node. `deno task` has a stand-in where there is none, which is Deno; then it is npm's. */
async function node(): Promise<string> {
  const args = ["-e", "process.exit(globalThis.Deno === undefined ? 0 : 1)"];
  const probe = new Deno.Command("node", { args, stdout: "null", stderr: "null" }).output();
  if (await probe.then(({ success }) => success, () => false)) return "node";
  return await npmFile(`node-linux-${Deno.build.arch === "x86_64" ? "x64" : "arm64"}`, NODE_VERSION, "bin/node");
}

async function bun(): Promise<string> {
  const arch = Deno.build.arch === "x86_64" ? "x64" : "aarch64";
  return await npmFile(`@oven/bun-linux-${arch}`, BUN_VERSION, "bin/bun");
}
