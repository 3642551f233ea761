/** Child processes for tests: this Deno, one script of `tests/children`, a deadline on everything. */
import { LIBRARY_PATHS } from "@winsock/handoff";
import { unixSystem } from "../../ffi/unix/libc.ts";
import { DARWIN } from "../../ffi/unix/darwin.ts";
import { LINUX } from "../../ffi/unix/linux.ts";

export const FFI_GRANT = `--allow-ffi=${LIBRARY_PATHS.join(",")}`;

/** What makes another process work as this one does where that is not the system's own way. */
export const STYLE: readonly string[] = unixSystem() === LINUX || unixSystem() === DARWIN ? [] : [
  `--preload=${
    new URL(unixSystem().epoll === undefined ? "darwin_style.ts" : "without_event_loop.ts", import.meta.url).href
  }`,
];

/** The arguments every process of a test begins with: no questions, no network. */
export const RUN: readonly string[] = ["run", "--quiet", "--no-prompt", "--no-check", "--cached-only", ...STYLE];

/** Spawns a script of `tests/children` with ffi access to the socket library and nothing else but the given grants. */
export function spawnChild(script: string, args: string[] = [], grants: string[] = []): Deno.ChildProcess {
  return spawnPiped(Deno.execPath(), childArgs(script, args, grants));
}

/** The same on Linux and macOS, in a process that may have no more than 60 descriptors. */
export function spawnCrowded(script: string, args: string[] = [], grants: string[] = []): Deno.ChildProcess {
  return spawnPiped("sh", ["-c", 'ulimit -n 60; exec "$0" "$@"', Deno.execPath(), ...childArgs(script, args, grants)]);
}

function childArgs(script: string, args: string[], grants: string[]): string[] {
  return [...RUN, FFI_GRANT, ...grants, new URL(`../children/${script}`, import.meta.url).href, ...args];
}

function spawnPiped(command: string, args: string[]): Deno.ChildProcess {
  return new Deno.Command(command, { args, stdin: "piped", stdout: "piped", stderr: "inherit" }).spawn();
}

/** Ends a child and waits until it is gone. */
export async function endChild(child: Deno.ChildProcess): Promise<void> {
  try {
    child.kill("SIGKILL");
  } catch {
    // it has ended by itself
  }
  await child.status;
  if (!child.stdout.locked) await child.stdout.cancel();
}

/** The lines a child prints, one at a time. */
export function lines(child: Deno.ChildProcess): () => Promise<string | undefined> {
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  return async () => {
    while (!text.includes("\n")) {
      const { done, value } = await within(20_000, reader.read());
      if (done) return undefined;
      text += value;
    }
    const end = text.indexOf("\n");
    const line = text.slice(0, end);
    text = text.slice(end + 1);
    return line;
  };
}

/**
 * The promise's outcome, or a failure when it takes longer.
 *
 * @param what What is waited for, for the failure; asked then.
 */
export async function within<T>(
  milliseconds: number,
  promise: Promise<T>,
  what: () => string = () => "something happens",
): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => late.reject(new Error(`Waited ${milliseconds} ms in vain until ${what()}`)),
    milliseconds,
  );
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits until a condition holds. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  milliseconds = 20_000,
): Promise<void> {
  for (const deadline = Date.now() + milliseconds; !await condition();) {
    if (Date.now() > deadline) throw new Error(`Waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
