/**
 * Channels on Windows. Frames are written to the target's stdin, with the blobs of `WSADuplicateSocketW` in them.
 * Answers come over a pair of loopback sockets, which carries bytes only.
 *
 * @module
 */
import type net from "node:net";
import type { SourceDecisions, TargetDecisions } from "../ffi/decisions.ts";
import { SourceEvents, TargetEvents } from "../ffi/windows/decisions.ts";
import { WINSOCK_STREAMS } from "../ffi/windows/io.ts";
import { Socket } from "../sockets/socket.ts";
import { openStream } from "../sockets/stream.ts";
import { defaultProvider } from "../spi/default_provider.ts";
import type { ChannelHello, SourceChannel, TargetChannel } from "./channel.ts";
import type { FrameReader } from "./frame_io.ts";
import { ChannelKind, FrameError, type Hello } from "./protocol.ts";

/** Opens the source's end. */
export function openWinsockSourceChannel(
  processId: number,
  stdin: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>,
): SourceChannel {
  const [near, far] = Socket.pair();
  let socket: net.Socket | undefined;
  let decisions: SourceDecisions | undefined;
  try {
    socket = openStream(near.handle);
    near.detach();
    decisions = new SourceEvents(processId);
    // This is the last step: the target has a duplicate from here on, and it cannot be taken back.
    const blob = defaultProvider().duplicateSocket(far.handle, processId);
    return new WinsockSourceChannel(socket, stdin, decisions, blob);
  } catch (error) {
    near.close();
    socket?.destroy();
    decisions?.close();
    throw error;
  } finally {
    far.close();
  }
}

class WinsockSourceChannel implements SourceChannel {
  readonly hello: ChannelHello;
  readonly usesStdin = true;
  readonly passesDescriptors = false;
  readonly #control: net.Socket;
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;

  constructor(
    control: net.Socket,
    stdin: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>,
    readonly decisions: SourceDecisions,
    blob: Uint8Array,
  ) {
    this.hello = { kind: ChannelKind.STDIN, means: decisions.means, descriptors: [0, 0, 0, 0], way: blob };
    this.#control = control;
    this.#stdin = stdin;
  }

  sendDescriptors(): boolean {
    throw new TypeError("Cannot send descriptors: a channel on Windows does not carry them");
  }

  write(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    return this.#stdin.write(bytes);
  }

  end(): Promise<void> {
    return this.#stdin.close();
  }

  listen(onBytes: (bytes: Uint8Array) => void, onEnd: (cause?: unknown) => void): void {
    listenOn(this.#control, onBytes, onEnd);
    this.#control.unref();
  }

  established(): void {}

  close(): void {
    this.#stdin.abort().catch(() => {});
    this.#control.destroy();
    this.decisions.close();
  }
}

/** Opens the target's end. */
export async function openWinsockTargetChannel(hello: Hello, input: FrameReader): Promise<TargetChannel> {
  if (hello.kind !== ChannelKind.STDIN) throw new RangeError(`HELLO announces a channel of kind ${hello.kind}`);
  const control = await defaultProvider().socket(hello.way);
  return new WinsockTargetChannel(control, openStream(control), input, hello.sourceProcessId);
}

class WinsockTargetChannel implements TargetChannel {
  readonly decisions: TargetDecisions;
  readonly #s: bigint;
  readonly #control: net.Socket;
  readonly #input: FrameReader;
  #listening = true;

  constructor(s: bigint, control: net.Socket, input: FrameReader, sourceProcessId: number) {
    this.decisions = new TargetEvents(sourceProcessId);
    this.#s = s;
    this.#control = control;
    this.#input = input;
    // The end of stdin shows that the source has ended.
    control.on("error", () => {});
    control.resume();
    control.unref();
  }

  listen(onBytes: (bytes: Uint8Array) => void, onEnd: (cause?: unknown) => void): void {
    this.#read(onBytes).then(() => onEnd(), onEnd);
  }

  async #read(onBytes: (bytes: Uint8Array) => void): Promise<void> {
    while (this.#listening) {
      const bytes = await this.#input.read();
      if (bytes === undefined) return;
      if (this.#listening) onBytes(bytes);
    }
  }

  setReferenced(referenced: boolean): void {
    this.#input.setReferenced(referenced);
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
      if (this.#control.writableLength === 0) sent = WINSOCK_STREAMS.send(this.#s, bytes) ?? 0;
    } catch {
      // The source has ended, which the end of stdin shows.
      return undefined;
    }
    if (sent === bytes.byteLength) return undefined;
    return new Promise((resolve) => void this.#control.write(bytes.subarray(sent), () => resolve()));
  }

  stopListening(): void {
    if (!this.#listening) return;
    this.#listening = false;
    this.#input.cancel();
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
