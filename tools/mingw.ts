/**
 * Compiles C for Windows with mingw-w64: the programs and libraries that tests run and load in the Windows lane.
 *
 * @module
 */
import { ensureCommands, step } from "./commands.ts";

/** The compiler. On Windows, mingw-w64 is the only gcc. */
export const COMPILER = Deno.build.os === "windows" ? "gcc" : "x86_64-w64-mingw32-gcc";
/** The Debian package of the compiler. */
export const DEBIAN_PACKAGE = "gcc-mingw-w64-x86-64-win32";
const OPTIONS = ["-O1", "-Wall", "-Wextra", "-Werror"];
const LIBRARIES = ["-lws2_32"];

/** The error if the compiler is not available on this machine. The message is the reason. */
export class CompilerUnavailable extends Error {
  override readonly name = "CompilerUnavailable";
}

/**
 * Compiles the C files that have changed since the last time: `name.c` to `name.exe` or `name.dll`.
 *
 * @param sources The paths of the C files.
 * @param folder The folder for the results.
 * @param kind The kind of the results.
 * @throws {CompilerUnavailable} If a file must be compiled and the compiler is not available.
 */
export async function compile(sources: readonly string[], folder: string, kind: "exe" | "dll"): Promise<void> {
  const stale: [source: string, target: string][] = [];
  for (const source of sources) {
    const target = `${folder}/${source.replace(/^.*\//, "").replace(/\.c$/, `.${kind}`)}`;
    if (await modified(source) > await modified(target)) stale.push([source, target]);
  }
  if (stale.length === 0) return;
  const [missing] = await ensureCommands([[COMPILER, DEBIAN_PACKAGE]]);
  if (missing !== undefined) throw new CompilerUnavailable(missing);
  await Deno.mkdir(folder, { recursive: true });
  for (const [source, target] of stale) {
    const shape = kind === "dll" ? ["-shared"] : [];
    await step("", COMPILER, [...OPTIONS, ...shape, "-o", target, source, ...LIBRARIES]);
  }
}

/** Returns the C files of a folder. */
export async function cFiles(folder: string): Promise<string[]> {
  const files: string[] = [];
  for await (const { name } of Deno.readDir(folder)) if (name.endsWith(".c")) files.push(`${folder}/${name}`);
  return files;
}

async function modified(path: string): Promise<number> {
  return await Deno.stat(path).then(({ mtime }) => mtime?.getTime() ?? 0, () => 0);
}
