/**
 * Commands of the system, run by the tools.
 *
 * @module
 */

/** Whether a file or folder is there. */
export async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

/** What a command prints; `undefined` if it cannot be run or fails. */
export async function output(command: string, args: string[]): Promise<string | undefined> {
  try {
    const { success, stdout } = await new Deno.Command(command, { args, stderr: "null" }).output();
    return success ? new TextDecoder().decode(stdout) : undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Runs a command that must succeed, and shows what it printed if it does not. */
export async function step(title: string, command: string, args: string[]): Promise<void> {
  if (title !== "") console.error(title);
  const { success, stdout, stderr } = await new Deno.Command(command, {
    args,
    env: { DEBIAN_FRONTEND: "noninteractive" },
  }).output();
  if (success) return;
  const text = new TextDecoder();
  throw new Error(`${command} ${args.join(" ")} failed:\n${text.decode(stdout)}${text.decode(stderr)}`);
}

/**
 * Sees to it that commands can be run; on Debian, as root, their packages are installed.
 *
 * @param needed The commands, which must answer to `--version`, and the packages that have them, with spaces between.
 * @returns What cannot be had, a line each.
 */
export async function ensureCommands(
  needed: readonly (readonly [command: string, debianPackages: string])[],
): Promise<string[]> {
  const missing: (readonly [string, string])[] = [];
  for (const need of needed) if (await output(need[0], ["--version"]) === undefined) missing.push(need);
  if (missing.length === 0) return [];
  if (Deno.build.os !== "linux" || Deno.uid() !== 0 || !await exists("/etc/debian_version")) {
    return missing.map(([command, debianPackages]) => `${command} is missing (in Debian: ${debianPackages})`);
  }
  const packages = missing.flatMap(([, debianPackages]) => debianPackages.split(" "));
  try {
    await step(`Installing ${packages.join(" ")}`, "apt-get", ["update", "-qq"]);
    await step("", "apt-get", ["install", "-y", "-qq", "--no-install-recommends", ...packages]);
    return [];
  } catch (error) {
    return [`${packages.join(" ")} cannot be installed: ${(error as Error).message}`];
  }
}
