/**
 * Finds a browser that tests can control.
 *
 * @module
 */

/** The commands of browsers, in Debian and elsewhere. All of them support the DevTools protocol. */
const COMMANDS = ["chromium-headless-shell", "google-chrome", "chromium"] as const;

/** Returns the command of a browser on this machine, on Linux. */
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
