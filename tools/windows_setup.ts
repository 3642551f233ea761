/**
 * Sets up the parts of the Windows lane, once and each in its own folder.
 *
 * @module
 */
import { exists, output, step } from "./commands.ts";

/** The npm package with the Windows build of Deno. */
const DENO_PACKAGE = "@deno/win32-x64@2.9.6";
const DEBIAN_RELEASE = "trixie";
const OLDEST_WINE = 9;

/** A Wine that can run Deno: of this machine, or in a Debian system under `root`. */
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
  // It is unpacked next to its place and then moved, so an interrupted setup begins again.
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

/** Copies deno.exe into the cache. */
export async function setUpDeno(cache: string): Promise<void> {
  const marker = `${cache}/deno.exe.version`;
  if (await Deno.readTextFile(marker).catch(() => "") === DENO_PACKAGE) return;
  await step(`Fetching ${DENO_PACKAGE}`, "npm", ["pack", "--silent", "--pack-destination", cache, DENO_PACKAGE]);
  const archive = `${cache}/${DENO_PACKAGE.replace(/^@/, "").replace(/[/@]/g, "-")}.tgz`;
  await step("", "tar", ["-xzf", archive, "-C", cache, "--strip-components=1", "package/deno.exe"]);
  await Deno.remove(archive);
  await Deno.writeTextFile(marker, DENO_PACKAGE);
}

/** Creates the Wine prefix. */
export async function setUpPrefix(wineboot: Deno.Command, cache: string): Promise<void> {
  const marker = `${cache}/prefix/ready`;
  if (await exists(marker)) return;
  console.error("Making the Wine prefix");
  const { success, stderr } = await wineboot.output();
  if (!success) throw new Error(`wineboot failed: ${new TextDecoder().decode(stderr)}`);
  await Deno.writeTextFile(marker, "");
}
