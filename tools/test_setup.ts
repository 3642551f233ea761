/**
 * What the tests run besides Deno: programs of Debian's and a browser on Linux, programs in C on Windows.
 *
 * @module
 */
import { findBrowser } from "./browsers.ts";
import { ensureCommands } from "./commands.ts";
import { cFiles, compile, CompilerUnavailable } from "./mingw.ts";
import { buildNativeLibrary } from "./native_library.ts";
import { fetchPackages } from "./packages.ts";

/** Programs that tests of the native lane start, where this is Linux, and the Debian packages that have them. */
const PROGRAMS: readonly [command: string, debianPackage: string][] = [
  ["systemd-socket-activate", "systemd"],
  ["python3", "python3"],
];

/** What is installed where there is no browser for the tests, which do without it where it cannot be had. 300 MB. */
const BROWSER: readonly [command: string, debianPackage: string] = [
  "chromium-headless-shell",
  "chromium-headless-shell",
];

/**
 * Sets up what the tests of a lane run.
 *
 * @param lane Which.
 * @returns What cannot be had here, a line each.
 */
export async function setUpTests(lane: "native" | "windows"): Promise<string[]> {
  // The Windows lane has a cache of its own, which is filled where Wine is set up.
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

/** What the C provider of the tests cannot be built without. */
async function missingFor(system: "linux" | "windows"): Promise<string[]> {
  const missing = await buildNativeLibrary(system);
  return missing === undefined ? [] : [missing];
}
