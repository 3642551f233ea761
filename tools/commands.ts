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
 * Sees to it that a command can be run; on Debian, as root, its package is installed.
 *
 * @param command The command, which must answer to `--version`.
 * @param debianPackage The package that has it.
 * @returns Nothing if it is there now; otherwise why it is not.
 */
export async function ensureCommand(command: string, debianPackage: string): Promise<string | undefined> {
  if (await output(command, ["--version"]) !== undefined) return undefined;
  if (Deno.build.os !== "linux" || Deno.uid() !== 0 || !await exists("/etc/debian_version")) {
    return `${command} is missing (Debian's package ${debianPackage})`;
  }
  await step(`Installing ${debianPackage}`, "apt-get", ["update", "-qq"]);
  await step("", "apt-get", ["install", "-y", "-qq", "--no-install-recommends", debianPackage]);
  return undefined;
}
