import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { FrameWriter } from "../../handoff/frame_writer.ts";
import { encodeFrame, type Frame, FrameDecoder, FrameError, FrameType, MAX_PAYLOAD } from "../../handoff/frame.ts";
import {
  decodeData,
  decodeHello,
  decodeOffer,
  decodeReason,
  encodeData,
  encodeHello,
  encodeOffer,
  encodeReason,
  MAX_DATA,
} from "../../handoff/payload.ts";
import { concat } from "@std/bytes/concat";

const FRAMES: [FrameType, number, Uint8Array<ArrayBuffer>][] = [
  [FrameType.READY, 0, Uint8Array.of(1, 2, 3, 4)],
  [FrameType.OFFER, 7, new Uint8Array(2_000).fill(9)],
  [FrameType.COMMIT, 0xffffffff, new Uint8Array(0)],
];

function header(change: (view: DataView) => void): Uint8Array {
  const bytes = encodeFrame(FrameType.END, 0);
  change(new DataView(bytes.buffer));
  return bytes;
}

Deno.test("a frame's header is 16 bytes as the protocol says", () => {
  const bytes = encodeFrame(FrameType.ACCEPT, 0x01020304, Uint8Array.of(5), Uint8Array.of(6, 7));
  assertEquals([...bytes], [0x48, 0x4f, 0x46, 0x46, 1, 17, 0, 0, 4, 3, 2, 1, 3, 0, 0, 0, 5, 6, 7]);
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

Deno.test("a frame cut short is no frame yet", () => {
  const decoder = new FrameDecoder();
  const bytes = encodeFrame(FrameType.READY, 0, new Uint8Array(4));
  assertEquals([...decoder.push(bytes.subarray(0, 19))], []);
  assertEquals([...decoder.push(bytes.subarray(19))].length, 1);
});

Deno.test("bytes that are no frames are refused at the header", () => {
  const refused: [Uint8Array, string][] = [
    [new TextEncoder().encode("GET / HTTP/1.1\r\n"), "Expected a frame, got bytes 71 69 84 32"],
    [header((view) => view.setUint8(4, 2)), "Expected protocol version 1, got 2"],
    [header((view) => view.setUint8(5, 99)), "Frame type 99 is unknown"],
    [header((view) => view.setUint16(6, 5, true)), "Reserved bytes of a frame are 5"],
    [header((view) => view.setUint32(12, MAX_PAYLOAD + 1, true)), `announces ${MAX_PAYLOAD + 1} bytes, more than`],
  ];
  for (const [bytes, message] of refused) {
    assertThrows(() => [...new FrameDecoder().push(bytes)], FrameError, message);
  }
});

Deno.test("nothing but last frames follows a last frame in one write", async () => {
  const writes: number[][] = [];
  const writer = new FrameWriter(
    new WritableStream({ write: (chunk: Uint8Array) => void writes.push([...chunk]) }),
  );
  const [offer, commit] = [() => Uint8Array.of(1), () => Uint8Array.of(2)];
  const all = [[offer], [commit, true], [commit, true], [offer], [offer], [commit, true]] as const;
  await Promise.all(all.map(([frame, last]) => writer.write(frame, last)));
  assertEquals(writes, [[1], [2, 2], [1, 1], [2]]);
  await Promise.all(Array.from({ length: 65 }, () => writer.write(commit, true)));
  assertEquals(writes.map(({ length }) => length), [1, 2, 2, 1, 64, 1]);
  await writer.close(1_000);
});

Deno.test("a frame is made when it leaves, and can be taken back until then", async () => {
  const writes: number[][] = [];
  let made = 0;
  const writer = new FrameWriter(new WritableStream({ write: (chunk: Uint8Array) => void writes.push([...chunk]) }));
  const frames = [1, 2, 3].map((byte) => () => {
    made++;
    return Uint8Array.of(byte);
  });
  const written = frames.map((frame) => writer.write(frame));
  assertEquals([writer.revoke(frames[1]!), writer.revoke(frames[1]!), made], [true, false, 0]);
  await Promise.all(written);
  assertEquals([writes, made, writer.revoke(frames[0]!)], [[[1, 3]], 2, false]);
  const alone = () => Uint8Array.of(4);
  const revoked = writer.write(alone);
  writer.revoke(alone);
  await revoked;
  assertEquals(writes.length, 1, "nothing to write is no write");
  await writer.close(1_000);
});

Deno.test("a stream that breaks refuses all that waits and all that follows", async () => {
  let count = 0;
  const stream = new WritableStream({
    write: () => {
      if (++count === 2) throw new Error("broken pipe");
    },
  });
  const writer = new FrameWriter(stream);
  await writer.write(() => Uint8Array.of(1), true);
  const failing = [writer.write(() => Uint8Array.of(2), true), writer.write(() => Uint8Array.of(3))];
  for (const write of failing) await assertRejects(() => write, Error);
  await assertRejects(() => writer.write(() => Uint8Array.of(4)), Error);
  await writer.close(1_000);
});

Deno.test("payloads come out as they went in", () => {
  const hello = { sourceProcessId: 1, targetProcessId: 4_000_000_000, control: new Uint8Array(628).fill(3) };
  assertEquals(decodeHello(concat(encodeHello(hello))), hello);
  const offer = { info: new Uint8Array(628).fill(1), data: Uint8Array.of(2, 2), initialBytes: Uint8Array.of(3) };
  assertEquals(decodeOffer(concat(encodeOffer(offer))), offer);
  for (const data of [undefined, null, 0, "ü", [1, { a: true }]]) assertEquals(decodeData(encodeData(data)), data);
  assertEquals(decodeReason(encodeReason("nö")), "nö");
});

Deno.test("payloads of the wrong size are refused", () => {
  assertThrows(() => decodeHello(new Uint8Array(635)), FrameError, "Expected HELLO to have 636 bytes, got 635");
  assertThrows(() => decodeOffer(new Uint8Array(631)), FrameError, "Expected OFFER to have");
  const lying = new Uint8Array(640);
  new DataView(lying.buffer).setUint32(628, 9, true);
  assertThrows(() => decodeOffer(lying), FrameError, "announces 9 bytes of data and has 8");
  assertThrows(() => encodeData("x".repeat(MAX_DATA)), RangeError, "bytes of data, more than");
  assertThrows(() => encodeData(() => {}), TypeError, "it has no JSON");
  assertEquals(encodeReason("ä".repeat(5_000)).byteLength, 4096);
});
