/**
 * Starts child processes that are to be targets, and opens the channel to each.
 *
 * @module
 */
import { checkOptions, PATH, STRING_RECORD, STRINGS } from "../internal/options.ts";
import { LIBRARY_PATHS, systemCalls } from "../ffi/system.ts";
import { chosenLibrary, LIBC_VARIABLE } from "../ffi/unix/libc.ts";
import type { HandoffChild, SourceChannel, TargetChannel } from "./channel.ts";
import type { FrameReader } from "./channel.ts";
import type { Hello } from "./protocol.ts";
import { type Inheritance, openUnixSourceChannel, openUnixTargetChannel, prepareInheritance } from "./unix_channel.ts";
import { openWinsockSourceChannel, openWinsockTargetChannel } from "./winsock_channel.ts";

/** Options of a Deno program that takes sockets. */
export interface ScriptOptions {
  /**
   * The additional flags of `deno run`, permissions and others, such as `--allow-net=example.com` or `--cached-only`.
   * The permissions of this process are not passed on. Ffi access to the system's socket library is added (and env
   * access to `WINSOCK_HANDOFF_LIBC` if it names the library), unless all permissions are granted (`-A`).
   */
  denoFlags?: readonly string[];
  /** The arguments of the script or command. */
  args?: readonly string[];
  /** The environment variables, in addition to those of this process. */
  env?: Readonly<Record<string, string>>;
  /** The working directory. Defaults to that of this process. */
  cwd?: string | URL;
}

/** A Deno program that takes sockets. */
export interface WorkerScript extends ScriptOptions {
  /**
   * The program, run by this Deno with ffi access to the system's socket library. A program that was compiled (`deno
   * compile`) has no Deno to run a script. It must use a `command`, such as itself with an argument.
   */
  script: string | URL;
  /** Not allowed together with a script. */
  command?: never;
}

/** Any other program that takes sockets. */
export interface WorkerExecutable extends Omit<ScriptOptions, "denoFlags"> {
  /** The program, which implements the protocol. It must be that program itself, not a wrapper that starts it. */
  command: string | URL;
  /** Not allowed together with a command. */
  script?: never;
  /** Not allowed together with a command. */
  denoFlags?: never;
}

/** A program that takes sockets: a `script` for this Deno, or a `command`. */
export type WorkerCommand = WorkerScript | WorkerExecutable;

/**
 * Checks the options of a program.
 *
 * @throws {TypeError} If an option is of another type, if there is not exactly one of `script` and `command`, or if it
 * is a script and this program is compiled, because it would start itself.
 */
export function checkWorkerCommand(program: WorkerCommand): void {
  checkOptions(program as ScriptOptions & { script?: unknown; command?: unknown }, {
    script: PATH,
    command: PATH,
    denoFlags: STRINGS,
    args: STRINGS,
    env: STRING_RECORD,
    cwd: PATH,
  });
  const { script, command, denoFlags } = program;
  if ((script === undefined) === (command === undefined)) {
    throw new TypeError("Invalid `script` and `command`: must be one of the two, got both or none");
  }
  if (denoFlags !== undefined && script === undefined) {
    throw new TypeError("Invalid `denoFlags`: must be used with a `script`, got a `command`");
  }
  if (script !== undefined && Deno.build.standalone) {
    throw new TypeError(`Cannot run script ${script}: this program is compiled, so give a \`command\``);
  }
}

/** Matches a flag for all permissions: `-A`, also among other letters, or `--allow-all`. */
const ALLOW_ALL = /^(?:-[a-zA-Z]*A[a-zA-Z]*|--allow-all(?:=.*)?)$/;

/** Returns whether flags of `deno run` grant all permissions. Deno then does not accept a single permission besides. */
export function grantsAll(flags: readonly string[]): boolean {
  return flags.some((flag) => ALLOW_ALL.test(flag));
}

/**
 * Returns the path of Deno, or of the compiled program that runs. A file may have taken the place of the one that this
 * process was started from, as `deno upgrade` does. Linux then names the old file, which is gone.
 */
export function ownExecutable(): string {
  return Deno.execPath().replace(/ \(deleted\)$/, "");
}

/** Options of {@linkcode spawnWorkerCommand}. */
interface SpawnOptions {
  /** Where the output of the program goes: to that of this process, or to this process through pipes. */
  output: "inherit" | "piped";
  /** Whether the program can outlive this process. On Windows a child otherwise ends with its parent. */
  detached?: boolean;
}

/**
 * Starts a program whose stdin is for a source. It inherits the channel of the source where the system allows that. It
 * does not inherit a connection that is just being accepted.
 */
export async function spawnWorkerCommand(
  program: WorkerCommand,
  { output, detached = false }: SpawnOptions,
): Promise<Deno.ChildProcess> {
  const options: Deno.CommandOptions = {
    args: commandArguments(program),
    stdin: "piped",
    stdout: output,
    stderr: output,
    detached,
  };
  if (program.env !== undefined) options.env = program.env;
  if (program.cwd !== undefined) options.cwd = program.cwd;
  const command = new Deno.Command(program.command ?? ownExecutable(), options);
  using _held = await systemCalls().holdAccepting();
  const channel = prepareChannel();
  if (channel === undefined) return command.spawn();
  try {
    const spawned = channel.spawn(() => command.spawn());
    attachChannel(spawned.child, spawned.channel);
    return spawned.child;
  } catch (error) {
    channel.close();
    throw error;
  }
}

/** The threads of Deno's pool for each processor on Windows (Deno 2.9.6). On other systems there are 32 in all. */
const THREADS_PER_PROCESSOR = 4;
/** The threads that remain for accepting, and for writing to a target. */
const SPARE_THREADS = 2;
/** The number of children whose output is read. */
let readOutputs = 0;

/**
 * Reserves what is needed to read the output of a child. On Windows, a thread of Deno's pool waits at each of the two
 * pipes. Without a free thread, nothing else that needs one would ever be done.
 *
 * @returns A function that must be called when the child has ended; `undefined` if there would be too few threads.
 */
export function reserveOutput(): (() => void) | undefined {
  const threads = 2 * (readOutputs + 1) + SPARE_THREADS;
  if (Deno.build.os === "windows" && threads > THREADS_PER_PROCESSOR * navigator.hardwareConcurrency) return undefined;
  readOutputs++;
  return () => void readOutputs--;
}

/** Ends a process at once. Does nothing if the process has ended already or cannot be ended. */
export function killProcess(child: Partial<Pick<Deno.ChildProcess, "kill">>): void {
  try {
    child.kill?.("SIGKILL");
  } catch {
    // The process has ended already.
  }
}

/** Ends a child that does not become a target, and closes what this process has of it. */
export function discardChild(child: Deno.ChildProcess, { output }: Pick<SpawnOptions, "output">): void {
  killProcess(child);
  prepared.get(child)?.close();
  prepared.delete(child);
  const pipes = output === "piped" ? [child.stdout.cancel(), child.stderr.cancel()] : [];
  // Which of them are open does not matter.
  Promise.allSettled([child.stdin.abort(), ...pipes]);
}

/** Returns how a process ended, in words: `exited with 3`, or the signal of the system that ended it. */
export function describeExit({ code, signal }: Pick<Deno.CommandStatus, "code" | "signal">): string {
  return signal === null ? `exited with ${code}` : `was ended by ${signal}`;
}

function commandArguments({ script, denoFlags = [], args = [] }: WorkerCommand): string[] {
  if (script === undefined) return [...args];
  const grants = grantsAll(denoFlags) ? [] : [
    `--allow-ffi=${LIBRARY_PATHS.join(",")}`,
    ...chosenLibrary === undefined ? [] : [`--allow-env=${LIBC_VARIABLE}`],
  ];
  return ["run", "--quiet", "--no-prompt", ...grants, ...denoFlags, String(script), ...args];
}

/** The channels that were created before their child was spawned. */
const prepared = new WeakMap<HandoffChild, SourceChannel>();

/** Sets the channel to use for a child, instead of a new one. */
export function attachChannel(child: HandoffChild, channel: SourceChannel): void {
  prepared.set(child, channel);
}

/**
 * Opens the channel to a child: the channel that was created for it, or a new one.
 *
 * @param child The target.
 * @throws {WinsockError} WSAEINVAL if the child has ended already.
 */
export function openSourceChannel(child: HandoffChild): SourceChannel {
  const brought = prepared.get(child);
  if (brought !== undefined) {
    prepared.delete(child);
    return brought;
  }
  return Deno.build.os === "windows" ? openWinsockSourceChannel(child.pid) : openUnixSourceChannel(child.pid);
}

/**
 * Creates descriptors that the next child inherits, if the system allows that and the provider shares descriptors.
 *
 * @returns `undefined` if the channel is created when the child runs.
 * @throws {WinsockError} If the system refuses, such as with WSAEMFILE.
 */
function prepareChannel(): Inheritance | undefined {
  return Deno.build.os === "windows" ? undefined : prepareInheritance();
}

/**
 * Opens this process's end of the channel that a HELLO describes.
 *
 * @param hello The content of HELLO.
 * @param input The input from which HELLO was read.
 * @throws {WinsockError} If the source has ended, or the system has no room.
 * @throws {RangeError} If HELLO is not valid in this process.
 */
export async function openTargetChannel(hello: Hello, input: FrameReader): Promise<TargetChannel> {
  const open = Deno.build.os === "windows" ? openWinsockTargetChannel : openUnixTargetChannel;
  return await open(hello, input);
}
