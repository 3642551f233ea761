/**
 * Opening the channel between a source and a target, on whichever system this is. HELLO alone always goes over the target's
 * stdin.
 *
 * @module
 */
import type { HandoffChild, SourceChannel, TargetChannel } from "./channel.ts";
import type { FrameInput } from "./frame_io.ts";
import type { Hello } from "./protocol.ts";
import { type Inheritance, openUnixSourceChannel, openUnixTargetChannel, prepareInheritance } from "./unix_channel.ts";
import { openWinsockSourceChannel, openWinsockTargetChannel } from "./winsock_channel.ts";

/** Channels that were made before their child was spawned. */
const prepared = new WeakMap<HandoffChild, SourceChannel>();

/** Has a channel used for a child, in place of a new one. */
export function bringChannel(child: HandoffChild, channel: SourceChannel): void {
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
export function prepareChannel(): Inheritance | undefined {
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
export async function openTargetChannel(hello: Hello, input: FrameInput): Promise<TargetChannel> {
  const open = Deno.build.os === "windows" ? openWinsockTargetChannel : openUnixTargetChannel;
  return await open(hello, input);
}
