/**
 * Spawning this library's targets, with the grants its documentation names.
 *
 * @module
 */
import { LIBRARY_PATHS } from "@winsock/handoff";

/** The arguments a process of this library begins with. */
export const RUN: readonly string[] = [
  "run",
  "--quiet",
  "--no-prompt",
  "--no-check",
  "--cached-only",
  // For --profile; nothing else asks for it.
  "--allow-sys",
];
/** What a target may do. */
export const FFI_GRANT = `--allow-ffi=${LIBRARY_PATHS.join(",")}`;

/** Spawns a script of this folder with a piped stdin. */
export function spawnTarget(script: string, args: string[] = []): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: [...RUN, FFI_GRANT, new URL(script, import.meta.url).href, ...args],
    stdin: "piped",
  }).spawn();
}
