/**
 * Which Unix this is.
 *
 * @module
 */
import { DARWIN } from "./darwin.ts";
import { LINUX } from "./linux.ts";
import type { UnixSystem } from "./unix_system.ts";

let system: UnixSystem = Deno.build.os === "darwin" ? DARWIN : LINUX;

/** The system this runs on. */
export function unixSystem(): UnixSystem {
  return system;
}

/** Makes the calls be made as another system would have them, before the first of them: for tests. */
export function useUnixSystem(chosen: UnixSystem): void {
  system = chosen;
}
