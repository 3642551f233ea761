/**
 * The payloads of frames.
 *
 * @module
 */
import { WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";
import { FrameError } from "./frame.ts";

/** Most bytes `data` may have as JSON in UTF-8. */
export const MAX_DATA = 1024 * 1024;
/** Most initial bytes that travel with a socket. */
export const MAX_INITIAL_BYTES = 1024 * 1024;
/** Most bytes a reason may have in UTF-8. */
export const MAX_REASON = 4096;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

/** What HELLO says. */
export interface Hello {
  readonly sourceProcessId: number;
  readonly targetProcessId: number;
  /** The target's end of the control socket, 628 bytes. */
  readonly control: Uint8Array;
}

/** The parts of HELLO's payload: two process ids and a WSAPROTOCOL_INFOW, 636 bytes. */
export function encodeHello(hello: Hello): Uint8Array[] {
  return [encodeNumber(hello.sourceProcessId), encodeNumber(hello.targetProcessId), hello.control];
}

/** Decodes HELLO's payload. */
export function decodeHello(payload: Uint8Array): Hello {
  checkLength("HELLO", payload, 8 + WSAPROTOCOL_INFOW.size, 8 + WSAPROTOCOL_INFOW.size);
  return {
    sourceProcessId: decodeNumber(payload, 0),
    targetProcessId: decodeNumber(payload, 4),
    control: payload.subarray(8),
  };
}

/** What OFFER brings. */
export interface OfferPayload {
  /** The socket, 628 bytes. */
  readonly info: Uint8Array;
  /** `data` as JSON in UTF-8; none if there is no data. */
  readonly data: Uint8Array;
  readonly initialBytes: Uint8Array;
}

/** The parts of OFFER's payload: a WSAPROTOCOL_INFOW, the length of the data, the data, the initial bytes. */
export function encodeOffer({ info, data, initialBytes }: OfferPayload): Uint8Array[] {
  return [info, encodeNumber(data.byteLength), data, initialBytes];
}

/** Decodes OFFER's payload; the parts are views. */
export function decodeOffer(payload: Uint8Array): OfferPayload {
  const start = WSAPROTOCOL_INFOW.size + 4;
  checkLength("OFFER", payload, start, start + MAX_DATA + MAX_INITIAL_BYTES);
  const end = start + decodeNumber(payload, WSAPROTOCOL_INFOW.size);
  if (end - start > MAX_DATA) throw new FrameError(`OFFER has ${end - start} bytes of data, more than ${MAX_DATA}`);
  if (end > payload.byteLength) {
    throw new FrameError(`OFFER announces ${end - start} bytes of data and has ${payload.byteLength - start}`);
  }
  return {
    info: payload.subarray(0, WSAPROTOCOL_INFOW.size),
    data: payload.subarray(start, end),
    initialBytes: payload.subarray(end),
  };
}

/** `data` as it travels. Throws a `TypeError` where it is no JSON, a `RangeError` where it is too long. */
export function encodeData(data: unknown): Uint8Array {
  if (data === undefined) return new Uint8Array(0);
  const text: string | undefined = JSON.stringify(data);
  if (text === undefined) throw new TypeError(`Cannot send a ${typeof data} as data: it has no JSON`);
  const bytes = encoder.encode(text);
  if (bytes.byteLength > MAX_DATA) {
    throw new RangeError(`Cannot send ${bytes.byteLength} bytes of data, more than ${MAX_DATA}`);
  }
  return bytes;
}

/** `data` as it was sent. */
export function decodeData(data: Uint8Array): unknown {
  return data.byteLength === 0 ? undefined : JSON.parse(decoder.decode(data));
}

/** READY's payload: the target's process id. */
export function encodeReady(processId: number): Uint8Array {
  return encodeNumber(processId);
}

/** Decodes READY's payload. */
export function decodeReady(payload: Uint8Array): number {
  checkLength("READY", payload, 4, 4);
  return decodeNumber(payload, 0);
}

/** REJECT's payload: why, cut where it is too long. */
export function encodeReason(reason: string): Uint8Array {
  const bytes = new Uint8Array(MAX_REASON);
  return bytes.subarray(0, encoder.encodeInto(reason, bytes).written);
}

/** Decodes REJECT's payload. */
export function decodeReason(payload: Uint8Array): string {
  checkLength("REJECT", payload, 0, MAX_REASON);
  return new TextDecoder().decode(payload);
}

function encodeNumber(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

function decodeNumber(bytes: Uint8Array, offset: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(offset, true);
}

function checkLength(frame: string, payload: Uint8Array, least: number, most: number): void {
  if (payload.byteLength >= least && payload.byteLength <= most) return;
  const expected = least === most ? `${least}` : `${least} to ${most}`;
  throw new FrameError(`Expected ${frame} to have ${expected} bytes, got ${payload.byteLength}`);
}
