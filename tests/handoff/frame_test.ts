import { assert, assertEquals, assertThrows } from "@std/assert";
import { concat } from "@std/bytes/concat";
import { type FrameSink, FrameWriter, MAX_DESCRIPTORS_AT_ONCE, type QueuedFrame } from "../../handoff/channel.ts";
import {
  decodeCounts,
  decodeData,
  decodeHello,
  decodeLimit,
  decodeOffer,
  decodeReady,
  decodeReason,
  encodeCounts,
  encodeData,
  encodeFrame,
  encodeHello,
  encodeLimit,
  encodeOffer,
  encodeReady,
  encodeReason,
  type Frame,
  FrameDecoder,
  FrameError,
  FrameType,
  MAX_COUNT,
  MAX_DATA,
  MAX_PAYLOAD,
  NO_LIMIT,
} from "../../handoff/protocol.ts";
import { within } from "../kit/process.ts";

const FRAMES: [FrameType, number, Uint8Array<ArrayBuffer>][] = [
  [FrameType.READY, 0, Uint8Array.of(1, 2, 3, 4)],
  [FrameType.OFFER, 7, new Uint8Array(2_000).fill(9)],
  [FrameType.TAKEN, 0xffffffff, new Uint8Array(0)],
];

function header(change: (view: DataView) => void): Uint8Array {
  const bytes = encodeFrame(FrameType.END, 0);
  change(new DataView(bytes.buffer));
  return bytes;
}

Deno.test("a frame's header is 16 bytes as the protocol says", () => {
  const bytes = encodeFrame(FrameType.REJECT, 0x01020304, Uint8Array.of(5), Uint8Array.of(6, 7));
  assertEquals([...bytes], [0x48, 0x4f, 0x46, 0x46, 2, 18, 0, 0, 4, 3, 2, 1, 3, 0, 0, 0, 5, 6, 7]);
});

Deno.test("frames come out as they went in, however the bytes are cut", () => {
  const wire = concat(FRAMES.map(([type, sequence, payload]) => encodeFrame(type, sequence, payload)));
  for (const size of [1, 3, 15, 16, 17, 1_000, wire.byteLength]) {
    const decoder = new FrameDecoder();
    const frames: Frame[] = [];
    for (let offset = 0; offset < wire.byteLength; offset += size) {
      frames.push(...decoder.push(wire.subarray(offset, offset + size)));
    }
    assertEquals(frames.map(({ type, sequence, payload }) => [type, sequence, new Uint8Array(payload)]), FRAMES);
  }
});

Deno.test("a frame that comes byte by byte needs no more memory than its bytes, and some", () => {
  const SIZE = 1_000_000;
  const decoder = new FrameDecoder();
  assertEquals([...decoder.push(encodeFrame(FrameType.OFFER, 1, new Uint8Array(SIZE)).subarray(0, 16))], []);
  const before = Deno.memoryUsage().heapUsed;
  for (let count = 1; count < SIZE; count++) for (const _ of decoder.push(new Uint8Array(1)));
  const growth = Deno.memoryUsage().heapUsed - before;
  assert(growth < 32 * 2 ** 20, `it needs ${(growth / 2 ** 20).toFixed(0)} MiB`);
  assertEquals([...decoder.push(new Uint8Array(1))].map(({ payload }) => payload.byteLength), [SIZE]);
});

Deno.test("a frame cut short is not a frame yet", () => {
  const decoder = new FrameDecoder();
  const bytes = encodeFrame(FrameType.READY, 0, new Uint8Array(4));
  assertEquals([...decoder.push(bytes.subarray(0, 19))], []);
  assertEquals([...decoder.push(bytes.subarray(19))].length, 1);
});

Deno.test("bytes that are not frames are refused at the header", () => {
  const refused: [Uint8Array, string][] = [
    [new TextEncoder().encode("GET / HTTP/1.1\r\n"), "Expected a frame, got bytes 71 69 84 32"],
    [header((view) => view.setUint8(4, 1)), "Expected protocol version 2, got 1"],
    [header((view) => view.setUint8(5, 99)), "Frame type 99 is unknown"],
    [header((view) => view.setUint16(6, 5, true)), "Reserved bytes of a frame are 5"],
    [header((view) => view.setUint32(12, MAX_PAYLOAD + 1, true)), `announces ${MAX_PAYLOAD + 1} bytes, more than`],
  ];
  const { WITHDRAW, END, TAKEN, DONE, LEAVE, PAUSE, STOP, ACCEPTING, PAUSED } = FrameType;
  for (const type of [WITHDRAW, END, TAKEN, DONE, LEAVE, PAUSE, STOP, ACCEPTING, PAUSED]) {
    const bytes = encodeFrame(type, 1, new Uint8Array(1)).subarray(0, 16);
    refused.push([bytes, `A frame of type ${type} announces 1 bytes, but has no payload`]);
  }
  for (const [bytes, message] of refused) {
    assertThrows(() => [...new FrameDecoder().push(bytes)], FrameError, message);
  }
});

/** What a {@linkcode FrameWriter} does to its sink, in order. */
class RecordingSink implements FrameSink {
  readonly log: string[] = [];
  /** How often there is no room for descriptors. */
  noRoom = 0;
  writing: Promise<void> | undefined;
  failure: Error | undefined;

  sendDescriptors(sequences: readonly number[], descriptors: readonly bigint[]): boolean {
    if (this.noRoom-- > 0) return false;
    this.log.push(`descriptors ${sequences.map((sequence, index) => `${sequence}:${descriptors[index]}`).join(" ")}`);
    return true;
  }

  write(bytes: Uint8Array<ArrayBuffer>): Promise<void> | undefined {
    if (this.failure !== undefined) throw this.failure;
    this.log.push(`bytes ${[...bytes].join(" ")}`);
    return this.writing;
  }

  end(): Promise<void> {
    this.log.push("end");
    return Promise.resolve();
  }
}

function frame(sequence: number, descriptor?: bigint): QueuedFrame {
  return { sequence, descriptor, encode: () => Uint8Array.of(sequence) };
}

const turn = () => new Promise((resolve) => setTimeout(resolve, 0));

function makeWriter(sink: FrameSink): { writer: FrameWriter; broken: unknown[] } {
  const broken: unknown[] = [];
  return { writer: new FrameWriter(sink, (cause) => broken.push(cause)), broken };
}

Deno.test("the frames of one turn leave in one write, behind their descriptors", async () => {
  const sink = new RecordingSink();
  const { writer } = makeWriter(sink);
  for (const one of [frame(1, 11n), frame(2), frame(3, 13n)]) writer.write(one);
  assertEquals(sink.log, []);
  await turn();
  assertEquals(sink.log, ["descriptors 1:11 3:13", "bytes 1 2 3"]);
  await writer.end(1_000);
  assertEquals(sink.log.at(-1), "end");
});

Deno.test("one message has a bounded number of descriptors", async () => {
  const sink = new RecordingSink();
  const { writer } = makeWriter(sink);
  for (let sequence = 1; sequence <= MAX_DESCRIPTORS_AT_ONCE + 1; sequence++) writer.write(frame(sequence, 1n));
  await turn();
  assertEquals(sink.log.map((entry) => entry.split(" ").length - 1), [MAX_DESCRIPTORS_AT_ONCE, 1, 17]);
});

Deno.test("without room for descriptors their frames wait, in order, and those ahead leave", async () => {
  const sink = new RecordingSink();
  sink.noRoom = 3;
  const { writer, broken } = makeWriter(sink);
  for (const one of [frame(1, 11n), frame(2)]) writer.write(one);
  await turn();
  assertEquals(sink.log, []);
  writer.write(frame(3, 13n));
  await within(5_000, writer.end(5_000));
  assertEquals(sink.log, ["descriptors 1:11 3:13", "bytes 1 2 3", "end"]);
  assertEquals(broken, []);
});

Deno.test("a frame is made when it leaves, and can be taken back until then", async () => {
  const sink = new RecordingSink();
  const { writer } = makeWriter(sink);
  let made = 0;
  const frames = [1, 2, 3].map((sequence) => ({ sequence, encode: () => (made++, Uint8Array.of(sequence)) }));
  for (const one of frames) writer.write(one);
  assertEquals([writer.revoke(frames[1]!), writer.revoke(frames[1]!), made], [true, false, 0]);
  await turn();
  assertEquals([sink.log, made, writer.revoke(frames[0]!)], [["bytes 1 3"], 2, false]);
  writer.write({ sequence: 4, encode: () => undefined });
  await turn();
  assertEquals(sink.log, ["bytes 1 3"], "nothing to write is not written");
});

Deno.test("while a write waits nothing overtakes it, and what waits can be taken back", async () => {
  const sink = new RecordingSink();
  const { writer } = makeWriter(sink);
  const blocked = Promise.withResolvers<void>();
  sink.writing = blocked.promise;
  writer.write(frame(1));
  await turn();
  sink.writing = undefined;
  const [second, third] = [frame(2), frame(3)];
  writer.write(second);
  writer.write(third);
  await turn();
  assertEquals(sink.log, ["bytes 1"]);
  assert(writer.revoke(second));
  blocked.resolve();
  await turn();
  assertEquals(sink.log, ["bytes 1", "bytes 3"]);
});

Deno.test("who has written a frame is told when the system has it", async () => {
  const sink = new RecordingSink();
  const { writer } = makeWriter(sink);
  const told: number[] = [];
  const write = (sequence: number) => writer.write({ ...frame(sequence), written: () => void told.push(sequence) });
  write(1);
  assertEquals(told, []);
  await turn();
  assertEquals(told, [1]);
  const blocked = Promise.withResolvers<void>();
  sink.writing = blocked.promise;
  write(2);
  await turn();
  sink.writing = undefined;
  write(3);
  await turn();
  assertEquals(told, [1]);
  blocked.resolve();
  await turn();
  assertEquals(told, [1, 2, 3]);
});

Deno.test("a sink that breaks is told of once, and what waits is dropped", async () => {
  for (const late of [false, true]) {
    const sink = new RecordingSink();
    const { writer, broken } = makeWriter(sink);
    const failure = new Error("broken pipe");
    if (late) sink.writing = Promise.reject(failure);
    else sink.failure = failure;
    writer.write(frame(1));
    await turn();
    writer.write(frame(2));
    await turn();
    assertEquals(broken, [failure]);
    await within(1_000, writer.end(60_000));
  }
});

Deno.test("a stream that is not read ends all the same, after its time", async () => {
  const sink = new RecordingSink();
  const { writer } = makeWriter(sink);
  sink.writing = new Promise(() => {});
  writer.write(frame(1));
  await turn();
  writer.write(frame(2));
  await within(5_000, writer.end(50));
  assertEquals(sink.log, ["bytes 1"]);
});

/** HELLO's payload without the way, as the protocol lays it out. */
function helloStart(kind: number): Uint8Array {
  const bytes = new Uint8Array(52);
  const view = new DataView(bytes.buffer);
  const numbers = [[0, 1], [4, 4_000_000_000], [8, kind], [12, 2], [32, 5], [36, 6], [40, 7], [44, 8], [
    48,
    1,
  ]] as const;
  for (const [offset, number] of numbers) view.setUint32(offset, number, true);
  bytes.fill(9, 16, 32);
  return bytes;
}

Deno.test("payloads come out as they went in", () => {
  for (const [kind, way] of [[0, new Uint8Array(628).fill(3)], [1, new Uint8Array(0)]] as const) {
    const payload = concat([helloStart(kind), way]);
    const hello = decodeHello(payload);
    assertEquals([hello.sourceProcessId, hello.targetProcessId, hello.kind, hello.means], [1, 4_000_000_000, kind, 2]);
    assertEquals([[...hello.secret], hello.descriptors], [Array(16).fill(9), [5, 6, 7, 8]]);
    assertEquals(hello.takesSockets, true);
    assertEquals(concat(encodeHello(hello)), payload);
  }
  for (const blob of [new Uint8Array(628).fill(1), new Uint8Array(0)]) {
    const data = Uint8Array.of(2, 2);
    const offer = { kind: 3, decision: 0xfedcba9876543210n, blob, data, initialBytes: Uint8Array.of(3) };
    assertEquals(decodeOffer(concat(encodeOffer(offer))), offer);
  }
  const secret = new Uint8Array(16).fill(7);
  assertEquals(decodeReady(concat(encodeReady(42, secret))), { processId: 42, secret });
  for (const data of [undefined, null, 0, "ü", [1, { a: true }]]) assertEquals(decodeData(encodeData(data)), data);
  assertEquals(decodeReason(encodeReason("nö")), "nö");
  assertEquals([...encodeLimit(0x01020304)], [4, 3, 2, 1]);
  for (const limit of [1, 70_000, NO_LIMIT]) assertEquals(decodeLimit(encodeLimit(limit)), limit);
  assertEquals([...encodeCounts(0x0102, 0x0304)], [2, 1, 4, 3]);
  assertEquals(decodeCounts(encodeCounts(MAX_COUNT, 0)), { accepted: MAX_COUNT, closed: 0 });
});

Deno.test("payloads of the wrong size or kind are refused", () => {
  assertThrows(() => decodeHello(new Uint8Array(51)), FrameError, "Expected HELLO to have 52 to 680 bytes, got 51");
  for (const [kind, way] of [[0, 0], [0, 627], [1, 1], [2, 0], [3, 0], [3, 628]] as const) {
    const payload = concat([helloStart(kind), new Uint8Array(way)]);
    assertThrows(() => decodeHello(payload), FrameError, `a channel of kind ${kind} and has ${way} more bytes`);
  }
  const neither = concat([helloStart(1)]);
  neither[48] = 2;
  assertThrows(() => decodeHello(neither), FrameError, "HELLO has 2 at 48, not 0 or 1");
  assertThrows(() => decodeReady(new Uint8Array(19)), FrameError, "Expected READY to have 20 bytes, got 19");
  assertThrows(() => decodeOffer(new Uint8Array(19)), FrameError, "Expected OFFER to have");
  const offers: [offset: number, value: number, message: string][] = [
    [0, 7, "OFFER has a socket of kind 7"],
    [4, 627, "OFFER has a blob of 627 bytes"],
    [8, MAX_DATA + 1, `OFFER has ${MAX_DATA + 1} bytes of data, more than`],
    [8, 9, "OFFER announces 29 bytes and has 28"],
    [4, 628, "OFFER announces 648 bytes and has 28"],
  ];
  for (const [offset, value, message] of offers) {
    const lying = new Uint8Array(28);
    const view = new DataView(lying.buffer);
    view.setUint32(0, 1, true);
    view.setUint32(offset, value, true);
    assertThrows(() => decodeOffer(lying), FrameError, message);
  }
  for (const size of [0, 3, 5]) {
    assertThrows(() => decodeLimit(new Uint8Array(size)), FrameError, `Expected ACCEPT to have 4 bytes, got ${size}`);
    assertThrows(() => decodeCounts(new Uint8Array(size)), FrameError, `Expected COUNTS to have 4 bytes, got ${size}`);
  }
  assertThrows(() => decodeLimit(new Uint8Array(4)), FrameError, "ACCEPT allows no connection");
  assertThrows(() => decodeCounts(new Uint8Array(4)), FrameError, "COUNTS reports no connections");
  assertThrows(() => encodeData("x".repeat(MAX_DATA)), RangeError, "Invalid `data`: must have at most");
  assertThrows(() => encodeData(() => {}), TypeError, "Invalid `data`: must be a JSON value");
  assertEquals(encodeReason("ä".repeat(5_000)).byteLength, 4096);
  assertEquals(encodeReason("no").buffer.byteLength, 2, "it keeps no more memory than its bytes");
});

Deno.test("a reason cannot steer a terminal", () => {
  assertEquals(decodeReason(encodeReason("\x1b]0;title\x07\r\nno \u009b31m")), " ]0;title no  31m");
});
