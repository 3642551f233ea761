/**
 * Sets up the programs that tests run besides Deno: Debian programs and a browser on Linux, and C programs for Windows.
 *
 * @module
 */
import { findBrowser } from "./browsers.ts";
import { ensureCommands } from "./commands.ts";
import { cFiles, compile, CompilerUnavailable } from "./mingw.ts";
import { buildNativeLibrary } from "./native_library.ts";
import { fetchPackages } from "./packages.ts";

/** The programs that tests of the native lane start on Linux, and their Debian packages. */
const PROGRAMS: readonly [command: string, debianPackage: string][] = [
  ["systemd-socket-activate", "systemd"],
  ["python3", "python3"],
];

/**
 * The browser to install if the tests do not find one (300 MB). Tests that need it are skipped if it is not
 * available.
 */
const BROWSER: readonly [command: string, debianPackage: string] = [
  "chromium-headless-shell",
  "chromium-headless-shell",
];

/**
 * Sets up the programs that the tests of a lane run.
 *
 * @param lane The lane to set up.
 * @returns The programs that are not available here, one per line.
 */
export async function setUpTests(lane: "native" | "windows"): Promise<string[]> {
  // The Windows lane has its own cache, which is filled when Wine is set up.
  if (lane === "native") await fetchPackages();
  if (lane === "native" && Deno.build.os !== "windows") {
    if (Deno.build.os !== "linux") return [];
    return [
      ...await ensureCommands(PROGRAMS),
      ...findBrowser() === undefined ? await ensureCommands([BROWSER]) : [],
      ...await missingFor("linux"),
    ];
  }
  try {
    await compile(await cFiles("tests/interop/c"), ".cache/c", "exe");
  } catch (error) {
    if (!(error instanceof CompilerUnavailable)) throw error;
    return [error.message];
  }
  return await missingFor("windows");
}

/** Returns the commands that are missing to build the C provider of the tests. */
async function missingFor(system: "linux" | "windows"): Promise<string[]> {
  const missing = await buildNativeLibrary(system);
  return missing === undefined ? [] : [missing];
}
