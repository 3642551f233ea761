/**
 * Builds the service provider in C that tests call, and that calls tests. It is built from `tests/native` once, and
 * again when its sources change.
 *
 * @module
 */
import { ensureCommands, step } from "./commands.ts";
import { COMPILER, DEBIAN_PACKAGE } from "./mingw.ts";

const SOURCES = "tests/native";
const FLAGS = ["-shared", "-O1", "-Wall", "-Wextra", "-Werror"];

/** The build command for each system. */
const BUILDS = {
  linux: {
    compiler: "gcc",
    debianPackages: "gcc libc6-dev",
    output: ".cache/native/provider.so",
    flags: ["-fPIC", "-fvisibility=hidden"],
    libraries: [],
  },
  windows: {
    compiler: COMPILER,
    debianPackages: DEBIAN_PACKAGE,
    output: ".cache/native/provider.dll",
    flags: ["-Wno-cast-function-type"],
    libraries: ["-lws2_32"],
  },
} as const;

/**
 * Builds the library for a system, in the project's folder.
 *
 * @param system The system whose calling convention and library format are used.
 * @returns The missing commands, if the library cannot be built here. Its tests are then skipped.
 */
export async function buildNativeLibrary(system: keyof typeof BUILDS): Promise<string | undefined> {
  const { compiler, debianPackages, output, flags, libraries } = BUILDS[system];
  const sources: string[] = [];
  for await (const { name } of Deno.readDir(SOURCES)) sources.push(`${SOURCES}/${name}`);
  if (await isNewer(output, sources)) return undefined;
  const [missing] = await ensureCommands([[compiler, debianPackages]]);
  if (missing !== undefined) return missing;
  await Deno.mkdir(".cache/native", { recursive: true });
  const files = sources.filter((source) => source.endsWith(".c"));
  await step("", compiler, [...FLAGS, ...flags, "-o", output, ...files, ...libraries]);
  return undefined;
}

async function isNewer(output: string, sources: readonly string[]): Promise<boolean> {
  const built = await modified(output);
  const changed = await Promise.all(sources.map(modified));
  return changed.every((time) => time < built);
}

async function modified(path: string): Promise<number> {
  return (await Deno.stat(path).catch(() => undefined))?.mtime?.getTime() ?? 0;
}
