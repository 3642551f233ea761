/**
 * What the tests run besides Deno: Debian's programs in the native lane, C programs in the Windows lane.
 *
 * @module
 */
import { ensureCommand } from "./commands.ts";
import { cFiles, compile, CompilerUnavailable } from "./mingw.ts";

/** Programs that tests of the native lane start, where this is Linux, and the Debian packages that have them. */
const PROGRAMS: readonly [command: string, debianPackage: string][] = [
  ["systemd-socket-activate", "systemd"],
  ["python3", "python3"],
];

/**
 * Sets up what the tests of a lane run.
 *
 * @param lane Which.
 * @returns What cannot be had here, a line each.
 */
export async function setUpTests(lane: "native" | "windows"): Promise<string[]> {
  const missing: string[] = [];
  if (lane === "windows") {
    try {
      await compile(await cFiles("tests/interop/c"), ".cache/c", "exe");
    } catch (error) {
      if (!(error instanceof CompilerUnavailable)) throw error;
      missing.push(error.message);
    }
  } else if (Deno.build.os === "linux") {
    for (const [command, debianPackage] of PROGRAMS) {
      const reason = await ensureCommand(command, debianPackage);
      if (reason !== undefined) missing.push(reason);
    }
  }
  return missing;
}
