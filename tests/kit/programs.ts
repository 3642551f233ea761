/** Programs that tests run besides Deno; `tools/test_setup.ts` sees to it that they are there. */

import { fileURLToPath } from "node:url";

/** `examples/socket_activation.ts`. */
export const EXAMPLE = new URL("../../examples/socket_activation.ts", import.meta.url).href;

/** What `examples/socket_activation.ts` says it may read of the environment. */
export const EXAMPLE_ENV_GRANT =
  "--allow-env=LISTEN_PID,LISTEN_PIDFDID,LISTEN_FDS,LISTEN_FDNAMES,LISTEN_FDS_FIRST_FD," +
  "SYSTEMFD_SOCKET_SERVER,SYSTEMFD_SOCKET_SECRET,NOTIFY_SOCKET";

/** A C program of `tests/interop/c`, compiled for Windows. */
export function cProgram(name: string): string {
  return fileURLToPath(new URL(`../../.cache/c/${name}.exe`, import.meta.url));
}

/** Whether the C programs can be run here: on Windows, or under Wine, where they were compiled. */
export function haveCPrograms(): boolean {
  return Deno.build.os === "windows" && [...filesOf(new URL("../interop/c/", import.meta.url))].every((file) => {
    return !file.endsWith(".c") || exists(cProgram(file.slice(0, -2)));
  });
}

/** Whether a program of the system can be run here. */
export function haveProgram(command: string): boolean {
  try {
    return Deno.build.os === "linux" && new Deno.Command(command, { args: ["--version"] }).outputSync().success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

function* filesOf(folder: URL): Generator<string> {
  for (const { name } of Deno.readDirSync(folder)) yield name;
}

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
