/**
 * What the Windows lane consists of, each part set up once and kept in a folder of its own.
 *
 * @module
 */

/** The Windows build of Deno, as npm has it. */
const DENO_PACKAGE = "@deno/win32-x64@2.9.5";
const DEBIAN_RELEASE = "trixie";
const OLDEST_WINE = 9;

/** A Wine that can run Deno: the machine's own, or one in a Debian system under `root`. */
export interface Wine {
  readonly root?: string;
}

/** Finds a Wine that can run Deno, or sets one up. */
export async function setUpWine(cache: string): Promise<Wine | { unavailable: string }> {
  const installed = await output("wine", ["--version"]);
  if (Number(/^wine-(\d+)/.exec(installed ?? "")?.[1] ?? 0) >= OLDEST_WINE) return {};

  const root = `${cache}/${DEBIAN_RELEASE}`;
  if (await exists(root)) return { root };
  if (Deno.uid() !== 0) return { unavailable: `without Wine ${OLDEST_WINE} or newer it must be set up, as root` };
  if (!await exists("/etc/debian_version")) {
    return { unavailable: "Wine is set up from Debian packages, on Debian only" };
  }
  if (await output("unshare", ["--mount", "--pid", "--fork", "true"]) === undefined) {
    return { unavailable: "this machine does not let root make namespaces" };
  }
  if (await output("debootstrap", ["--version"]) === undefined) {
    await step("Installing debootstrap", "apt-get", ["update", "-qq"]);
    await step("", "apt-get", ["install", "-y", "-qq", "debootstrap"]);
  }
  // Unpacked beside its place and moved there whole: what was interrupted is begun again.
  const partial = `${root}.partial`;
  await step("", "rm", ["-rf", partial]);
  const mirror = (await output("apt-get", ["indextargets", "--format", "$(SITE)", "Origin: Debian"]))?.split("\n")[0];
  const options = ["--variant=minbase", "--include=wine,wine64", DEBIAN_RELEASE, partial];
  await step(
    `Setting up Debian ${DEBIAN_RELEASE} with Wine (1.4 GB, about a minute)`,
    "debootstrap",
    mirror ? [...options, mirror] : options,
  );
  await Deno.rename(partial, root);
  return { root };
}

/**
 * Finds a command, or installs the Debian packages it is in.
 *
 * @returns What is missing, if it cannot be had on this machine.
 */
export async function setUpDebianPackage(
  command: string,
  packages: readonly string[],
): Promise<string | undefined> {
  if (await output(command, ["--version"]) !== undefined) return undefined;
  const names = packages.join(" and ");
  if (Deno.build.os !== "linux" || !await exists("/etc/debian_version") || Deno.uid() !== 0) {
    return `${command} is missing (Debian's ${names}; as root it is installed)`;
  }
  await step(`Installing ${names}`, "apt-get", ["update", "-qq"]);
  await step("", "apt-get", ["install", "-y", "-qq", "--no-install-recommends", ...packages]);
  return undefined;
}

/** Puts deno.exe into the cache. */
export async function setUpDeno(cache: string): Promise<void> {
  const marker = `${cache}/deno.exe.version`;
  if (await Deno.readTextFile(marker).catch(() => "") === DENO_PACKAGE) return;
  await step(`Fetching ${DENO_PACKAGE}`, "npm", ["pack", "--silent", "--pack-destination", cache, DENO_PACKAGE]);
  const archive = `${cache}/${DENO_PACKAGE.replace(/^@/, "").replace(/[/@]/g, "-")}.tgz`;
  await step("", "tar", ["-xzf", archive, "-C", cache, "--strip-components=1", "package/deno.exe"]);
  await Deno.remove(archive);
  await Deno.writeTextFile(marker, DENO_PACKAGE);
}

/** Fetches the npm packages of the project with this Deno, for the Windows build to find. */
export async function setUpPackages(cache: string, project: string): Promise<void> {
  const entryPoints: string[] = [];
  for (const folder of ["tests", "examples", "links"]) {
    for await (const file of typescriptFiles(`${project}/${folder}`)) entryPoints.push(file);
  }
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["install", "--quiet", "--entrypoint", ...entryPoints],
    cwd: project,
    env: { DENO_DIR: `${cache}/deno_dir` },
  }).output();
  if (!success) throw new Error(`Cannot fetch the packages: ${new TextDecoder().decode(stderr)}`);
}

/** Makes the Wine prefix. */
export async function setUpPrefix(wineboot: Deno.Command, cache: string): Promise<void> {
  const marker = `${cache}/prefix/ready`;
  if (await exists(marker)) return;
  console.error("Making the Wine prefix");
  const { success, stderr } = await wineboot.output();
  if (!success) throw new Error(`wineboot failed: ${new TextDecoder().decode(stderr)}`);
  await Deno.writeTextFile(marker, "");
}

async function* typescriptFiles(folder: string): AsyncGenerator<string> {
  for await (const entry of Deno.readDir(folder)) {
    if (entry.isDirectory) yield* typescriptFiles(`${folder}/${entry.name}`);
    else if (entry.name.endsWith(".ts")) yield `${folder}/${entry.name}`;
  }
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

/** What a command prints; `undefined` if it cannot be run or fails. */
async function output(command: string, args: string[]): Promise<string | undefined> {
  try {
    const { success, stdout } = await new Deno.Command(command, { args, stderr: "null" }).output();
    return success ? new TextDecoder().decode(stdout) : undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Runs a command that must succeed, and shows what it printed if it does not. */
async function step(title: string, command: string, args: string[]): Promise<void> {
  if (title !== "") console.error(title);
  const { success, stdout, stderr } = await new Deno.Command(command, {
    args,
    env: { DEBIAN_FRONTEND: "noninteractive" },
  }).output();
  if (success) return;
  const text = new TextDecoder();
  throw new Error(`${command} ${args.join(" ")} failed:\n${text.decode(stdout)}${text.decode(stderr)}`);
}
