/** What becomes of a frame on its way. */
import { concat } from "@std/bytes/concat";
import { type Frame, FrameType, HEADER_SIZE } from "./protocol.ts";
import type { Random } from "./random.ts";
import type { FrameFault } from "./steps.ts";

const TYPE_OFFSET = 5;
const LENGTH_OFFSET = 12;
/** Of the length the highest byte: another one is more than any payload has. */
const REGIONS = { "flip head": [0, 7], "flip sequence": [8, 11], "flip length": [15, 15] } as const;
/**
 * Bytes of a payload that mean the same on every system: the target's process id in HELLO, the length of the blob in OFFER,
 * everything in the others.
 */
const IN_PAYLOAD: Partial<Record<FrameType, readonly [first: number, last: number]>> = {
  [FrameType.HELLO]: [4, 7],
  [FrameType.OFFER]: [4, 7],
};

/** The frame as it arrives. */
export function garbled(
  frame: Frame,
  bytes: Uint8Array<ArrayBuffer>,
  fault: FrameFault,
  random: Random,
): Uint8Array<ArrayBuffer> {
  // At least one byte, and not all.
  if (fault === "truncate frame") return bytes.slice(0, random.between(1, bytes.byteLength - 1));
  if (fault === "duplicate frame") return concat([bytes, bytes]);
  const result = bytes.slice();
  if (fault === "raise length") {
    const length = bytes.byteLength - HEADER_SIZE + random.between(1, 1_000);
    new DataView(result.buffer).setUint32(LENGTH_OFFSET, length, true);
    return result;
  }
  const [first, last] = fault === "flip payload" ? payloadRange(frame) : REGIONS[fault];
  const offset = random.between(first, last);
  let value = result[offset]!;
  do value = random.between(0, 255); while (value === result[offset] || offset === TYPE_OFFSET && isType(value));
  result[offset] = value;
  return result;
}

/** A type that is one turns a frame into another frame, which a head that is wrong must not do. */
function isType(value: number): boolean {
  return Object.values<number>(FrameType).includes(value);
}

function payloadRange({ type, payload }: Frame): [number, number] {
  const [first, last] = IN_PAYLOAD[type] ?? [0, payload.byteLength - 1];
  return [HEADER_SIZE + first, HEADER_SIZE + last];
}
