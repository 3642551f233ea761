/**
 * Sets up the parts of the Windows lane, once and each in its own folder.
 *
 * @module
 */
import { exists, output } from "./commands.ts";
import { setUpDebian, unpackNpm } from "./debian.ts";

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
  const unavailable = await setUpDebian({
    root,
    release: DEBIAN_RELEASE,
    options: ["--include=wine,wine64"],
    title: `Setting up Debian ${DEBIAN_RELEASE} with Wine (1.4 GB, about a minute)`,
  });
  return unavailable === undefined ? { root } : { unavailable: `without Wine ${OLDEST_WINE} or newer, ${unavailable}` };
}

/** Copies deno.exe into the cache. */
export async function setUpDeno(cache: string): Promise<void> {
  await unpackNpm(DENO_PACKAGE, "deno.exe", cache);
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
