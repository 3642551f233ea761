/** What becomes of a frame on its way. */
import { concat } from "@std/bytes/concat";
import { type Frame, FrameType, HEADER_SIZE } from "./protocol.ts";
import type { Random } from "./random.ts";
import type { Region } from "./steps.ts";

const TYPE_OFFSET = 5;
const REGIONS = { head: [0, 7], sequence: [8, 11], length: [12, 15] } as const;
/**
 * Where the blob in a payload says which duplicate it is: `dwProviderReserved` on Linux, `dwServiceFlags3` under Wine. There
 * the upper half of a number, for another lower half may be that of another socket of the target.
 */
const BLOB_NUMBER = Deno.build.os === "windows" ? [10, 11] as const : [112, 115] as const;
const BLOB_IN_HELLO = 8;

/** The frame's first bytes, at least one and not all. */
export function truncated(bytes: Uint8Array, random: Random): Uint8Array<ArrayBuffer> {
  return bytes.slice(0, random.between(1, bytes.byteLength - 1));
}

export function duplicated(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return concat([bytes, bytes]);
}

/** One byte of the region is another. */
export function flipped(frame: Frame, bytes: Uint8Array, region: Region, random: Random): Uint8Array<ArrayBuffer> {
  const result = bytes.slice();
  const [first, last] = region === "payload" ? payloadRange(frame) : REGIONS[region];
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

/** Bytes of the payload that mean something: not every byte of a blob does. */
function payloadRange({ type, payload }: Frame): [number, number] {
  const blob = type === FrameType.HELLO ? BLOB_IN_HELLO : type === FrameType.OFFER ? 0 : undefined;
  if (blob === undefined) return [HEADER_SIZE, HEADER_SIZE + payload.byteLength - 1];
  const [first, last] = BLOB_NUMBER;
  return [HEADER_SIZE + blob + first, HEADER_SIZE + blob + last];
}
