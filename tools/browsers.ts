/**
 * Browsers that tests can drive.
 *
 * @module
 */

/** In Debian and elsewhere; all speak the DevTools protocol. */
const COMMANDS = ["chromium-headless-shell", "google-chrome", "chromium"] as const;

/** The command of a browser this machine has, on Linux. */
export function findBrowser(): string | undefined {
  if (Deno.build.os !== "linux") return undefined;
  return COMMANDS.find((command) => {
    try {
      return new Deno.Command(command, { args: ["--version"], stdout: "null", stderr: "null" }).outputSync().success;
    } catch {
      return false;
    }
  });
}
