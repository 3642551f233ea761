/** Sources and targets for tests: both in this process, or one of them saying what the test wants. */
import { assertEquals, assertRejects } from "@std/assert";
import {
  type AnySocket,
  duplicateSocket,
  type HandoffChild,
  HandoffError,
  HandoffSource,
  type HandoffSourceOptions,
  openSocket,
  receive,
  type ReceiveOptions,
  type Socket,
} from "@winsock/handoff";
import { DECISION_SLOTS } from "../../ffi/decisions.ts";
import { systemCalls } from "../../ffi/system.ts";
import type { SourceChannel, TargetChannel } from "../../handoff/channel.ts";
import { type FrameReader, streamInput } from "../../handoff/channel.ts";
import { attachChannel, openSourceChannel, openTargetChannel } from "../../handoff/spawn.ts";
import {
  decodeHello,
  decodeOffer,
  encodeFrame,
  encodeHello,
  encodeOffer,
  encodeReady,
  type Frame,
  FrameDecoder,
  FrameType,
  type Hello,
  OfferedKind,
} from "../../handoff/protocol.ts";
import { within } from "./process.ts";

const NO_BYTES = new Uint8Array(0);

/** A child that is this process: its stdin is a stream, it ends when it is told. */
export interface FakeChild {
  readonly child: HandoffChild;
  readonly input: ReadableStream<Uint8Array>;
  exit(code: number): void;
}

export function fakeChild(): FakeChild {
  const stdin = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>();
  const status = Promise.withResolvers<Deno.CommandStatus>();
  const child = { pid: Deno.pid, stdin: stdin.writable, status: status.promise } as HandoffChild;
  return { child, input: stdin.readable, exit: (code) => status.resolve({ success: code === 0, code, signal: null }) };
}

/** The same, with a way to put bytes among the frames of its source. */
export function injectingChild(): FakeChild & { inject(bytes: Uint8Array<ArrayBuffer>): void } {
  const fake = fakeChild();
  const channel = openSourceChannel(fake.child);
  attachChannel(fake.child, channel);
  return { ...fake, inject: (bytes) => void channel.write(bytes) };
}

/** A source and a target in this process, both of the library. */
export async function withInProcessPair(
  test: (source: HandoffSource, received: ReturnType<typeof receive>, exit: (code: number) => void) => Promise<void>,
  options: ReceiveOptions = {},
  sourceOptions: HandoffSourceOptions = {},
): Promise<void> {
  const { child, input, exit } = fakeChild();
  const source = new HandoffSource(child, { sendTimeout: 5_000, ...sourceOptions });
  const received = receive({ ...options, input });
  try {
    await within(20_000, test(source, received, exit));
  } finally {
    exit(0);
    await within(20_000, source.closed);
    await received.return();
  }
}

/** A target that has opened its channel and says what the test wants. */
export interface FakeTarget {
  readonly hello: Hello;
  readonly channel: TargetChannel;
  /** Answers READY. */
  ready(): void;
  /** Writes bytes as answers. */
  say(...parts: Uint8Array[]): void;
  /** The next frame after HELLO; `undefined` at the end. */
  next(): Promise<Frame | undefined>;
  /** The next frame, which is to be an OFFER. */
  offer(): Promise<Frame>;
  /** Decides what an OFFER is about. Returns whether the source had not decided. */
  decide(offer: Frame): boolean;
  /** Opens what an OFFER brings, which is the caller's to close. */
  open(offer: Frame): Promise<bigint>;
  /** Opens it and closes it: on Windows a duplicate is in the target's process, whether it was opened or not. */
  drop(offer: Frame): Promise<void>;
  /** Takes what an OFFER brings as a target of the library does, and closes it. Returns whether it was the first. */
  take(offer: Frame): Promise<boolean>;
  /** Ends the process, as far as the source can tell. */
  exit(code: number): void;
}

/** A source of the library, and a target in this process that says what the test wants. */
export async function withFakeTarget(
  test: (source: HandoffSource, target: FakeTarget) => Promise<void>,
  options: HandoffSourceOptions = {},
): Promise<void> {
  const fake = fakeChild();
  // It answers when the test has it answer, however slow the machine is.
  const source = new HandoffSource(fake.child, { sendTimeout: 5_000, endIfSilent: false, ...options });
  const target = await openFakeTarget(streamInput(fake.input), fake.exit);
  try {
    await within(30_000, test(source, target));
  } finally {
    fake.exit(0);
    await within(20_000, source.closed);
    target.channel.close();
  }
}

/** Reads HELLO and opens the channel that it announces. */
export async function openFakeTarget(input: FrameReader, exit: (code: number) => void): Promise<FakeTarget> {
  const hello = await readHello(input);
  const channel = await openTargetChannel(hello, input);
  const next = frameQueue((onBytes, onEnd) => channel.listen(onBytes, onEnd));
  const target: FakeTarget = {
    hello,
    channel,
    exit,
    next,
    ready: () => target.say(encodeFrame(FrameType.READY, 0, ...encodeReady(Deno.pid, hello.secret))),
    say: (...parts) => {
      for (const part of parts) channel.answer(part as Uint8Array<ArrayBuffer>);
    },
    async offer() {
      const frame = await next();
      assertEquals(frame?.type, FrameType.OFFER);
      const { sequence, payload } = frame!;
      channel.decisions.remember(sequence % DECISION_SLOTS, decodeOffer(payload).decision);
      return frame!;
    },
    decide: ({ sequence, payload }) =>
      channel.decisions.decide(sequence % DECISION_SLOTS, decodeOffer(payload).decision),
    async open({ sequence, payload }) {
      const { blob } = decodeOffer(payload);
      return blob.byteLength === 0 ? channel.takeDescriptor(sequence)! : (await openSocket(blob)).detach();
    },
    async drop(offer) {
      systemCalls().close(await target.open(offer));
    },
    async take(offer) {
      const descriptor = await target.open(offer);
      const first = target.decide(offer);
      systemCalls().close(descriptor);
      target.say(encodeFrame(first ? FrameType.TAKEN : FrameType.REJECT, offer.sequence));
      return first;
    },
  };
  return target;
}

async function readHello(input: FrameReader): Promise<Hello> {
  const decoder = new FrameDecoder();
  for (let chunk = await input.read(); chunk !== undefined; chunk = await input.read()) {
    for (const frame of decoder.push(chunk)) {
      assertEquals(frame.type, FrameType.HELLO);
      return decodeHello(frame.payload.slice());
    }
  }
  throw new Error("The source says no HELLO");
}

/** A source that has opened its channel and says what the test wants. */
export interface FakeSource {
  readonly channel: SourceChannel;
  readonly secret: Uint8Array;
  /** HELLO as the target is to get it, with changes. */
  hello(changes?: Partial<Hello>): Uint8Array<ArrayBuffer>;
  /** Writes to the target's stdin. */
  writeInput(bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** Ends the target's stdin. */
  endInput(): void;
  /** Writes frames over the channel. */
  say(...frames: Uint8Array[]): void;
  /** Opens a decision and makes the OFFER of a socket; its descriptor is sent at once where one is. */
  offer(
    socket: AnySocket,
    sequence: number,
    changes?: { kind?: number; data?: Uint8Array },
  ): Uint8Array<ArrayBuffer>;
  /** Decides for the source. */
  decide(sequence: number): boolean;
  /** The target's next answer; `undefined` at the end. */
  next(): Promise<Frame | undefined>;
}

/** A target of the library, and a source in this process that says what the test wants: not even HELLO by itself. */
export async function withFakeSource(
  test: (source: FakeSource, received: ReturnType<typeof receive>) => Promise<void>,
  options: ReceiveOptions = {},
): Promise<void> {
  const { child, input } = fakeChild();
  const stdin = child.stdin.getWriter();
  const channel = openSourceChannel(child);
  const secret = crypto.getRandomValues(new Uint8Array(16));
  const received = receive({ ...options, input });
  const source: FakeSource = {
    channel,
    secret,
    hello: (changes = {}) => {
      const hello = {
        sourceProcessId: Deno.pid,
        targetProcessId: Deno.pid,
        secret,
        takesSockets: true,
        ...channel.hello,
        ...changes,
      };
      return encodeFrame(FrameType.HELLO, 0, ...encodeHello(hello));
    },
    writeInput: (bytes) => stdin.write(bytes),
    endInput: () => void stdin.close().catch(() => {}),
    say: (...frames) => {
      for (const frame of frames) channel.write(frame as Uint8Array<ArrayBuffer>)?.catch(() => {});
    },
    offer(socket, sequence, { kind = OfferedKind.connection, data = NO_BYTES } = {}) {
      const decision = channel.decisions.open(sequence % DECISION_SLOTS);
      if (channel.passesDescriptors) channel.sendDescriptors([sequence], [socket.handle]);
      const blob = channel.passesDescriptors ? NO_BYTES : duplicateSocket(socket, Deno.pid);
      const payload = encodeOffer({ kind, decision, blob, data, initialBytes: NO_BYTES });
      return encodeFrame(FrameType.OFFER, sequence, ...payload);
    },
    decide: (sequence) => channel.decisions.decide(sequence % DECISION_SLOTS),
    next: frameQueue((onBytes, onEnd) => channel.listen(onBytes, onEnd)),
  };
  try {
    await within(30_000, test(source, received));
  } finally {
    channel.close();
    stdin.abort().catch(() => {});
    await received.return();
  }
}

/** Frames as they come, one at a time. Nothing is read before the first is asked for. */
function frameQueue(
  listen: (onBytes: (bytes: Uint8Array) => void, onEnd: () => void) => void,
): () => Promise<Frame | undefined> {
  const decoder = new FrameDecoder();
  const frames: (Frame | undefined)[] = [];
  let heard: PromiseWithResolvers<void> | undefined;
  const start = () =>
    listen((bytes) => {
      for (const frame of decoder.push(bytes)) frames.push({ ...frame, payload: frame.payload.slice() });
      heard!.resolve();
    }, () => {
      frames.push(undefined);
      heard!.resolve();
    });
  return async () => {
    if (heard === undefined) {
      heard = Promise.withResolvers();
      start();
    }
    while (frames.length === 0) {
      heard = Promise.withResolvers();
      await within(10_000, heard.promise);
    }
    return frames[0] === undefined ? undefined : frames.shift();
  };
}

/** How a hand-off ended, and why. */
export async function outcome(promise: Promise<unknown>): Promise<[outcome: string, reason: string]> {
  const error = await within(20_000, assertRejects(() => promise, HandoffError));
  return [error.outcome, error.reason];
}

/** Whether a source can send, as it knows in this turn of the event loop. */
export async function isOpen(source: HandoffSource): Promise<boolean> {
  let open = true;
  source.closed.then(() => open = false);
  await new Promise((resolve) => setTimeout(resolve, 0));
  return open;
}

/** What a source says of a child that was killed. */
export function killed({ pid }: { pid: number }): string {
  return Deno.build.os === "windows" ? `process ${pid} exited with 1` : `process ${pid} was ended by SIGKILL`;
}

/** So many descriptors of one socket. */
export async function duplicates(socket: Socket, count: number): Promise<Socket[]> {
  const sockets: Socket[] = [];
  while (sockets.length < count) sockets.push(await openSocket(duplicateSocket(socket, Deno.pid)) as Socket);
  return sockets;
}
