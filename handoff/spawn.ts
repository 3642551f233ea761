/**
 * Child processes that are to become targets: starting them, and opening the channel to each.
 *
 * @module
 */
import { LIBRARY_PATHS, systemCalls } from "../ffi/system.ts";
import type { HandoffChild, SourceChannel, TargetChannel } from "./channel.ts";
import type { FrameReader } from "./frame_io.ts";
import type { Hello } from "./protocol.ts";
import { type Inheritance, openUnixSourceChannel, openUnixTargetChannel, prepareInheritance } from "./unix_channel.ts";
import { openWinsockSourceChannel, openWinsockTargetChannel } from "./winsock_channel.ts";

/** How a Deno program that takes sockets is run. */
export interface ScriptOptions {
  /**
   * More flags for `deno run`, permissions and others, such as `--allow-net=example.com` or `--cached-only`. Of what this
   * process may do nothing is passed on. Ffi access to the system's socket library is added, unless all is allowed (`-A`).
   */
  denoFlags?: readonly string[];
  /** Arguments of the script or command. */
  args?: readonly string[];
  /** Environment variables, beside this process's own. */
  env?: Readonly<Record<string, string>>;
  /** The folder it runs in. Defaults to this process's. */
  cwd?: string | URL;
}

/** A Deno program that takes sockets. */
export interface WorkerScript extends ScriptOptions {
  /**
   * The program, run by this Deno with ffi access to the system's socket library. A program that was compiled
   * (`deno compile`) has no Deno to run it: it gives a `command`, such as itself with an argument.
   */
  script: string | URL;
  /** Not beside a script. */
  command?: never;
}

/** Any other program that takes sockets. */
export interface WorkerExecutable extends Omit<ScriptOptions, "denoFlags"> {
  /** The program, which speaks the protocol. It must be the one that does, not a wrapper that starts it. */
  command: string | URL;
  /** Not beside a command. */
  script?: never;
  /** Not beside a command. */
  denoFlags?: never;
}

/** A program that takes sockets: a `script` for this Deno, or a `command`. */
export type WorkerCommand = WorkerScript | WorkerExecutable;

/**
 * Checks what is to be run.
 *
 * @throws {TypeError} If it cannot be told what that is, or if it is a script and this program is compiled: what it would
 * start is itself.
 */
export function checkWorkerCommand({ script, command, denoFlags }: WorkerCommand): void {
  if ((script === undefined) === (command === undefined)) {
    throw new TypeError("Invalid `script` and `command`: must be one of the two, got both or none");
  }
  if (denoFlags !== undefined && script === undefined) {
    throw new TypeError("Invalid `denoFlags`: must be beside a `script`, got a `command`");
  }
  if (script !== undefined && Deno.build.standalone) {
    throw new TypeError(`Cannot run script ${script}: this program is compiled, so give a \`command\``);
  }
}

/** All permissions: `-A`, also among other letters, or `--allow-all`. */
const ALLOW_ALL = /^(?:-[a-zA-Z]*A[a-zA-Z]*|--allow-all(?:=.*)?)$/;

/** How a program runs beside this one. */
interface SpawnOptions {
  /** Where it prints: where this process does, or to this process. */
  output: "inherit" | "piped";
  /** Whether it outlives this process. On Windows a child ends with its parent otherwise. */
  detached?: boolean;
}

/**
 * Starts it, with its stdin for a source, whose channel it inherits where that can be; it inherits no connection that is
 * being accepted.
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
  const command = new Deno.Command(program.command ?? Deno.execPath(), options);
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

/** Ends a process at once; one that has ended is left alone, and so is one that cannot be ended. */
export function killProcess(child: Partial<Pick<Deno.ChildProcess, "kill">>): void {
  try {
    child.kill?.("SIGKILL");
  } catch {
    // it has ended already
  }
}

/** How a process ended, in words: `exited with 3`, or by which signal of the system. */
export function describeExit({ code, signal }: Pick<Deno.CommandStatus, "code" | "signal">): string {
  return signal === null ? `exited with ${code}` : `was ended by ${signal}`;
}

function commandArguments({ script, denoFlags = [], args = [] }: WorkerCommand): string[] {
  if (script === undefined) return [...args];
  // Deno takes no single permission beside all of them.
  const grants = denoFlags.some((flag) => ALLOW_ALL.test(flag)) ? [] : [`--allow-ffi=${LIBRARY_PATHS.join(",")}`];
  return ["run", "--quiet", "--no-prompt", ...grants, ...denoFlags, String(script), ...args];
}

/** Channels that were made before their child was spawned. */
const prepared = new WeakMap<HandoffChild, SourceChannel>();

/** Has a channel used for a child, in place of a new one. */
export function attachChannel(child: HandoffChild, channel: SourceChannel): void {
  prepared.set(child, channel);
}

/**
 * Opens the channel to a child: the one that was brought, or a new one.
 *
 * @param child The target.
 * @param stdin Its stdin, for frames where the system has nothing better.
 * @throws {WinsockError} WSAEINVAL if the child is gone already.
 */
export function openSourceChannel(
  child: HandoffChild,
  stdin: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>,
): SourceChannel {
  const brought = prepared.get(child);
  if (brought !== undefined) {
    prepared.delete(child);
    return brought;
  }
  return Deno.build.os === "windows" ? openWinsockSourceChannel(child.pid, stdin) : openUnixSourceChannel(child.pid);
}

/**
 * Makes descriptors that the next child inherits, where the system lets it and the provider shares descriptors.
 *
 * @returns Nothing where the channel is made when the child runs.
 * @throws {WinsockError} If the system refuses, such as WSAEMFILE.
 */
function prepareChannel(): Inheritance | undefined {
  return Deno.build.os === "windows" ? undefined : prepareInheritance();
}

/**
 * Opens this process's end of the channel that a HELLO announces.
 *
 * @param hello What it says.
 * @param input Where HELLO came from.
 * @throws {WinsockError} If the source is gone, or the system has no room.
 * @throws {RangeError} If it does not make sense here.
 */
export async function openTargetChannel(hello: Hello, input: FrameReader): Promise<TargetChannel> {
  const open = Deno.build.os === "windows" ? openWinsockTargetChannel : openUnixTargetChannel;
  return await open(hello, input);
}
