/**
 * Channels on Windows. Frames go through a pipe, with the blobs of `WSADuplicateSocketW` in them. The target has a handle
 * of the pipe that its children cannot inherit. Answers come over a pair of loopback sockets, which carries bytes only.
 *
 * Frames do not use loopback sockets: when a process is ended by force, Windows resets its connections, and what the other
 * side has not read is lost. A pipe keeps it.
 *
 * @module
 */
import type net from "node:net";
import type { SourceDecisions, TargetDecisions } from "../ffi/decisions.ts";
import { SourceEvents, TargetEvents } from "../ffi/windows/decisions.ts";
import { IncomingPipe, OutgoingPipe, sendOwn } from "../ffi/windows/io.ts";
import { HandleReceiver } from "../ffi/windows/libraries.ts";
import { Socket } from "../sockets/socket.ts";
import { openStream } from "../sockets/stream.ts";
import { defaultProvider } from "../spi/default_provider.ts";
import type { ChannelHello, SourceChannel, TargetChannel } from "./channel.ts";
import type { FrameReader } from "./channel.ts";
import { ChannelKind, FrameError, type Hello } from "./protocol.ts";

/** Opens the source's end. */
export function openWinsockSourceChannel(processId: number): SourceChannel {
  const [near, far] = Socket.pair();
  let socket: net.Socket | undefined;
  let decisions: SourceDecisions | undefined;
  let frames: OutgoingPipe | undefined;
  try {
    socket = openStream(near.handle);
    near.detach();
    decisions = new SourceEvents(processId);
    // These are the last steps: the target has duplicates from here on, and they cannot be taken back.
    using receiver = new HandleReceiver(processId);
    frames = new OutgoingPipe(receiver);
    const blob = defaultProvider().duplicateSocket(far.handle, processId);
    return new WinsockSourceChannel(socket, frames, decisions, blob);
  } catch (error) {
    near.close();
    socket?.destroy();
    decisions?.close();
    frames?.close();
    throw error;
  } finally {
    far.close();
  }
}

class WinsockSourceChannel implements SourceChannel {
  readonly hello: ChannelHello;
  readonly passesDescriptors = false;
  readonly #control: net.Socket;
  readonly #frames: OutgoingPipe;

  constructor(control: net.Socket, frames: OutgoingPipe, readonly decisions: SourceDecisions, blob: Uint8Array) {
    // Handles have 32 significant bits in every process.
    const [pipe, event, process] = frames.farHandles;
    const descriptors = [Number(pipe), Number(event), Number(process), 0] as const;
    this.hello = { kind: ChannelKind.GIVEN, means: decisions.means, descriptors, way: blob };
    this.#control = control;
    this.#frames = frames;
  }

  sendDescriptors(): boolean {
    throw new TypeError("Cannot send descriptors: a channel on Windows does not carry them");
  }

  write(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    return this.#frames.write(bytes);
  }

  end(): Promise<void> {
    return this.#frames.end();
  }

  listen(onBytes: (bytes: Uint8Array) => void, onEnd: (cause?: unknown) => void): void {
    listenOn(this.#control, onBytes, onEnd);
    this.#control.unref();
  }

  established(): void {}

  close(): void {
    this.#frames.close();
    this.#control.destroy();
    this.decisions.close();
  }
}

/** Opens the target's end. */
export async function openWinsockTargetChannel(hello: Hello, input: FrameReader): Promise<TargetChannel> {
  const { kind, descriptors: [pipe, event, process], sourceProcessId, way } = hello;
  if (kind !== ChannelKind.GIVEN) throw new RangeError(`HELLO announces a channel of kind ${kind}`);
  const control = await defaultProvider().socket(way);
  let frames: IncomingPipe;
  try {
    frames = new IncomingPipe([BigInt(pipe), BigInt(event), BigInt(process)]);
  } catch (error) {
    defaultProvider().closeSocket(control);
    throw error;
  }
  // No other frames come through this input, and processes that this one starts read the end of it.
  input.cancel();
  return new WinsockTargetChannel(control, openStream(control), frames, sourceProcessId);
}

class WinsockTargetChannel implements TargetChannel {
  readonly decisions: TargetDecisions;
  readonly #s: bigint;
  readonly #control: net.Socket;
  readonly #frames: IncomingPipe;
  #listening = true;

  constructor(s: bigint, control: net.Socket, frames: IncomingPipe, sourceProcessId: number) {
    this.decisions = new TargetEvents(sourceProcessId);
    this.#s = s;
    this.#control = control;
    this.#frames = frames;
    // The end of the frames shows that the source has ended.
    control.on("error", () => {});
    control.resume();
    control.unref();
  }

  listen(onBytes: (bytes: Uint8Array) => void, onEnd: (cause?: unknown) => void): void {
    this.#read(onBytes).then(() => onEnd(), onEnd);
  }

  async #read(onBytes: (bytes: Uint8Array) => void): Promise<void> {
    while (this.#listening) {
      const bytes = await this.#frames.read();
      if (bytes === undefined) return;
      if (this.#listening) onBytes(bytes);
    }
  }

  setReferenced(referenced: boolean): void {
    this.#frames.setReferenced(referenced);
  }

  takeDescriptor(sequence: number): bigint | undefined {
    throw new FrameError(`OFFER ${sequence} has no blob`);
  }

  /**
   * Writes with a plain call while there is room, because a stream's write takes ten times as long. The rest waits in
   * the stream.
   */
  answer(bytes: Uint8Array<ArrayBuffer>): Promise<void> | undefined {
    if (this.#control.destroyed) return undefined;
    let sent = 0;
    try {
      if (this.#control.writableLength === 0) sent = sendOwn(this.#s, bytes) ?? 0;
    } catch {
      // The source has ended, which the end of the frames shows.
      return undefined;
    }
    if (sent === bytes.byteLength) return undefined;
    return new Promise((resolve) => void this.#control.write(bytes.subarray(sent), () => resolve()));
  }

  stopListening(): void {
    if (!this.#listening) return;
    this.#listening = false;
    this.#frames.close();
  }

  close(): void {
    this.stopListening();
    this.#control.destroySoon();
    this.decisions.close();
  }
}

function listenOn(
  socket: net.Socket,
  onBytes: (bytes: Uint8Array) => void,
  onEnd: (cause?: unknown) => void,
): void {
  let ended = false;
  const end = (cause?: unknown) => {
    if (ended) return;
    ended = true;
    onEnd(cause);
  };
  socket.on("data", onBytes);
  socket.on("end", () => end());
  socket.on("error", end);
  socket.on("close", () => end());
}
