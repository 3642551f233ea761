/**
 * Runs commands of the system for the tools.
 *
 * @module
 */

/** Returns whether a file or folder exists. */
export async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

/** Returns the output of a command; `undefined` if it cannot be run or fails. */
export async function output(command: string, args: string[]): Promise<string | undefined> {
  try {
    const { success, stdout } = await new Deno.Command(command, { args, stderr: "null" }).output();
    return success ? new TextDecoder().decode(stdout) : undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Runs a command that must succeed. If it fails, shows its output. */
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
 * Checks that commands can be run. On Debian, as root, it installs the packages of missing commands.
 *
 * @param needed The commands, which must support `--version`, and their packages, separated by spaces.
 * @returns The commands that are not available, one per line.
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
