/**
 * What source and target say to each other, as bytes: frames, and their payloads. `docs/protocol.md` describes them.
 *
 * @module
 */
import { concat } from "@std/bytes/concat";
import { WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";

/** Version of the protocol. */
const PROTOCOL_VERSION = 2;
/** `HOFF` in memory: every frame begins with it. */
const MAGIC = 0x46464f48;
/** Bytes in front of every payload. */
export const HEADER_SIZE = 16;
/** Longest payload of a frame, in bytes; a header that announces more is refused before anything is stored. */
export const MAX_PAYLOAD = 3 * 1024 * 1024;
/** Most bytes `data` may have as JSON in UTF-8. */
export const MAX_DATA = 1024 * 1024;
/** Most initial bytes that travel with a socket. */
export const MAX_INITIAL_BYTES = 1024 * 1024;
/** Most bytes a reason may have in UTF-8. */
export const MAX_REASON = 4096;
/** Bytes of the secret that HELLO brings and READY returns. */
export const SECRET_SIZE = 16;

/** What a frame says. Below 16 from source to target, from 16 on from target to source. */
export const FrameType = {
  /** First frame: who speaks to whom, and how the target gets the rest of the channel. */
  HELLO: 1,
  /** A socket, for the target to take. */
  OFFER: 2,
  /** The source has withdrawn the offer: the target may close its duplicate now. */
  WITHDRAW: 3,
  /** No more offers. */
  END: 4,
  /** The target may accept on a shared listener, up to a limit. */
  ACCEPT: 5,
  /** The target is not to accept on it for now. */
  PAUSE: 6,
  /** The target is to close its duplicate of it. */
  STOP: 7,
  /** First answer: the target has the whole channel. */
  READY: 16,
  /** The target has taken the socket. */
  TAKEN: 17,
  /** The target does not take the socket, or found its offer withdrawn. */
  REJECT: 18,
  /** The target has closed, or given up, a socket it had taken. */
  DONE: 19,
  /** The target takes no more sockets. */
  LEAVE: 20,
  /** The answer to ACCEPT. */
  ACCEPTING: 21,
  /** The answer to PAUSE: nothing is accepted on the listener until the next ACCEPT. */
  PAUSED: 22,
  /** The target has closed its duplicate of a shared listener: the answer to STOP, or by itself. */
  STOPPED: 23,
  /** How many connections the target has accepted on a shared listener, and closed, since it last said so. */
  COUNTS: 24,
} as const;

/** One of {@linkcode FrameType}'s numbers. */
export type FrameType = typeof FrameType[keyof typeof FrameType];

const TYPES: ReadonlySet<number> = new Set(Object.values(FrameType));
const WITH_PAYLOAD: ReadonlySet<number> = new Set([
  FrameType.HELLO,
  FrameType.OFFER,
  FrameType.READY,
  FrameType.REJECT,
  FrameType.ACCEPT,
  FrameType.STOPPED,
  FrameType.COUNTS,
]);

/** One frame. */
export interface Frame {
  readonly type: FrameType;
  /** Which hand-off it is about; 0 for frames that are not about one. */
  readonly sequence: number;
  readonly payload: Uint8Array;
}

/** The bytes on the wire are not frames. */
export class FrameError extends Error {
  override readonly name = "FrameError";
}

/**
 * Encodes a frame.
 *
 * @param type What it says.
 * @param sequence Which hand-off it is about.
 * @param payload What comes with it, in parts.
 * @returns The frame's bytes.
 */
export function encodeFrame(type: FrameType, sequence: number, ...payload: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const length = payload.reduce((length, part) => length + part.byteLength, 0);
  const bytes = new Uint8Array(HEADER_SIZE + length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint8(4, PROTOCOL_VERSION);
  view.setUint8(5, type);
  view.setUint32(8, sequence, true);
  view.setUint32(12, length, true);
  let offset = HEADER_SIZE;
  for (const part of payload) {
    bytes.set(part, offset);
    offset += part.byteLength;
  }
  return bytes;
}

/** Takes bytes as they arrive and gives frames as they become whole. */
export class FrameDecoder {
  #chunks: Uint8Array[] = [];
  #length = 0;
  readonly #maxPayload: number;

  /** @param maxPayload Longest payload to take, in bytes. */
  constructor(maxPayload = MAX_PAYLOAD) {
    this.#maxPayload = maxPayload;
  }

  /**
   * Decodes what has become whole.
   *
   * @param chunk The next bytes.
   * @returns The frames that ended in them, in order. Their payloads are views.
   * @throws {FrameError} If the bytes are not frames of this version.
   */
  *push(chunk: Uint8Array): Generator<Frame, void, void> {
    this.#chunks.push(chunk);
    this.#length += chunk.byteLength;
    while (this.#length >= HEADER_SIZE) {
      const { type, sequence, payloadLength } = decodeHeader(this.#peek(HEADER_SIZE), this.#maxPayload);
      const size = HEADER_SIZE + payloadLength;
      if (this.#length < size) return;
      const frame = this.#peek(size);
      this.#chunks = [this.#chunks[0]!.subarray(size)];
      this.#length -= size;
      yield { type, sequence, payload: frame.subarray(HEADER_SIZE) };
    }
  }

  /** The next `size` bytes in one piece; chunks are joined only when a frame needs them. */
  #peek(size: number): Uint8Array {
    if (this.#chunks[0]!.byteLength < size) this.#chunks = [concat(this.#chunks)];
    return this.#chunks[0]!.subarray(0, size);
  }
}

function decodeHeader(
  header: Uint8Array,
  maxPayload: number,
): { type: FrameType; sequence: number; payloadLength: number } {
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  const magic = view.getUint32(0, true);
  if (magic !== MAGIC) throw new FrameError(`Expected a frame, got bytes ${[...header.subarray(0, 4)].join(" ")}`);
  const version = view.getUint8(4);
  if (version !== PROTOCOL_VERSION) {
    throw new FrameError(`Expected protocol version ${PROTOCOL_VERSION}, got ${version}`);
  }
  const type = view.getUint8(5);
  if (!TYPES.has(type)) throw new FrameError(`Frame type ${type} is unknown`);
  const reserved = view.getUint16(6, true);
  if (reserved !== 0) throw new FrameError(`Reserved bytes of a frame are ${reserved}, not 0`);
  const payloadLength = view.getUint32(12, true);
  if (payloadLength > maxPayload) {
    throw new FrameError(`A frame announces ${payloadLength} bytes, more than ${maxPayload}`);
  }
  // Refused at once: a reader that waits for the payload would hold the socket that the frame is about for as long.
  if (payloadLength > 0 && !WITH_PAYLOAD.has(type)) {
    throw new FrameError(`A frame of type ${type} announces ${payloadLength} bytes, and has no payload`);
  }
  return { type: type as FrameType, sequence: view.getUint32(8, true), payloadLength };
}

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

/** How the target gets what is not in HELLO itself. */
export const ChannelKind = {
  /** Windows: further frames follow on stdin, answers go to the control socket, whose blob HELLO has. */
  STDIN: 0,
  /** Linux, macOS: the target inherited the descriptors under the numbers that HELLO has. */
  INHERITED: 1,
  /** Linux, macOS: the descriptors come over a local socket, whose path HELLO has. */
  PASSED: 2,
} as const;

/** One of {@linkcode ChannelKind}'s numbers. */
export type ChannelKind = typeof ChannelKind[keyof typeof ChannelKind];

/** Descriptors of a channel on Linux and macOS: for frames, for descriptors, for answers, for decisions. */
export type ChannelDescriptors = readonly [frames: number, descriptors: number, answers: number, decisions: number];

/** What HELLO says. */
export interface Hello {
  readonly sourceProcessId: number;
  readonly targetProcessId: number;
  readonly kind: ChannelKind;
  /** What the table of decisions is made of, one of `DecisionMeans`. */
  readonly means: number;
  /** What READY has to return. */
  readonly secret: Uint8Array;
  /** The numbers of inherited descriptors; all 0 where none were. */
  readonly descriptors: ChannelDescriptors;
  /** What the target gets the rest by: a WSAPROTOCOL_INFOW of 628 bytes, a path of at most 107, or nothing. */
  readonly way: Uint8Array;
}

const HELLO_SIZE = 48;
/** Least and most bytes of the way, by kind. */
const WAY_SIZE: Readonly<Record<ChannelKind, readonly [least: number, most: number]>> = {
  [ChannelKind.STDIN]: [WSAPROTOCOL_INFOW.size, WSAPROTOCOL_INFOW.size],
  [ChannelKind.INHERITED]: [0, 0],
  [ChannelKind.PASSED]: [1, 107],
};

/** The parts of HELLO's payload: 48 bytes, and the way. */
export function encodeHello(hello: Hello): Uint8Array[] {
  const bytes = new Uint8Array(HELLO_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, hello.sourceProcessId, true);
  view.setUint32(4, hello.targetProcessId, true);
  view.setUint32(8, hello.kind, true);
  view.setUint32(12, hello.means, true);
  bytes.set(hello.secret, 16);
  for (const [index, descriptor] of hello.descriptors.entries()) view.setUint32(32 + index * 4, descriptor, true);
  return [bytes, hello.way];
}

/** Decodes HELLO's payload; the parts are views. */
export function decodeHello(payload: Uint8Array): Hello {
  checkLength("HELLO", payload, HELLO_SIZE, HELLO_SIZE + WSAPROTOCOL_INFOW.size);
  const number = (offset: number) => decodeNumber(payload, offset);
  const kind = number(8);
  const way = payload.subarray(HELLO_SIZE);
  const [least, most] = WAY_SIZE[kind as ChannelKind] ?? [1, 0];
  if (way.byteLength < least || way.byteLength > most) {
    throw new FrameError(`HELLO announces a channel of kind ${kind} and has ${way.byteLength} more bytes`);
  }
  return {
    sourceProcessId: number(0),
    targetProcessId: number(4),
    kind: kind as ChannelKind,
    means: number(12),
    secret: payload.subarray(16, 16 + SECRET_SIZE),
    descriptors: [number(32), number(36), number(40), number(44)],
    way,
  };
}

/** What a socket is, as OFFER says it. */
export const OfferedKind = {
  connection: 1,
  listener: 2,
  datagram: 3,
  /** A connection that the source goes on having: the target's close must not end it. */
  copy: 4,
  /** A listener that the source goes on having: the target accepts on it when it is told to. */
  shared: 5,
} as const;

/** What OFFER brings. */
export interface OfferPayload {
  /** One of {@linkcode OfferedKind}'s numbers. */
  readonly kind: number;
  /** The target's handle of the decision; 0 where the slot says enough. */
  readonly decision: bigint;
  /** The socket, 628 bytes; none where its descriptor was sent. */
  readonly blob: Uint8Array;
  /** `data` as JSON in UTF-8; none if there is no data. */
  readonly data: Uint8Array;
  readonly initialBytes: Uint8Array;
}

/** Bytes in front of the blob: kind, length of the blob, length of the data (4 each), decision (8). */
export const OFFER_SIZE = 20;

/** The parts of OFFER's payload. */
export function encodeOffer({ kind, decision, blob, data, initialBytes }: OfferPayload): Uint8Array[] {
  const bytes = new Uint8Array(OFFER_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, kind, true);
  view.setUint32(4, blob.byteLength, true);
  view.setUint32(8, data.byteLength, true);
  view.setBigUint64(12, decision, true);
  return [bytes, blob, data, initialBytes];
}

/** Decodes OFFER's payload; the parts are views. */
export function decodeOffer(payload: Uint8Array): OfferPayload {
  checkLength("OFFER", payload, OFFER_SIZE, OFFER_SIZE + WSAPROTOCOL_INFOW.size + MAX_DATA + MAX_INITIAL_BYTES);
  const kind = decodeNumber(payload, 0);
  const blobSize = decodeNumber(payload, 4);
  const dataSize = decodeNumber(payload, 8);
  if (!(Object.values(OfferedKind) as number[]).includes(kind)) {
    throw new FrameError(`OFFER has a socket of kind ${kind}`);
  }
  if (blobSize !== 0 && blobSize !== WSAPROTOCOL_INFOW.size) {
    throw new FrameError(`OFFER has a blob of ${blobSize} bytes`);
  }
  if (dataSize > MAX_DATA) throw new FrameError(`OFFER has ${dataSize} bytes of data, more than ${MAX_DATA}`);
  const dataStart = OFFER_SIZE + blobSize;
  const dataEnd = dataStart + dataSize;
  if (dataEnd > payload.byteLength) {
    throw new FrameError(`OFFER announces ${dataEnd} bytes and has ${payload.byteLength}`);
  }
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  return {
    kind,
    decision: view.getBigUint64(12, true),
    blob: payload.subarray(OFFER_SIZE, dataStart),
    data: payload.subarray(dataStart, dataEnd),
    initialBytes: payload.subarray(dataEnd),
  };
}

const NO_BYTES: Uint8Array = new Uint8Array(0);

/** `data` as it travels. Throws a `TypeError` where JSON cannot express it, a `RangeError` where it is too long. */
export function encodeData(data: unknown): Uint8Array {
  if (data === undefined) return NO_BYTES;
  const text: string | undefined = JSON.stringify(data);
  if (text === undefined) throw new TypeError(`Cannot send a ${typeof data} as data: JSON cannot express it`);
  const bytes = encoder.encode(text);
  if (bytes.byteLength > MAX_DATA) {
    throw new RangeError(`Cannot send ${bytes.byteLength} bytes of data: the most is ${MAX_DATA}`);
  }
  return bytes;
}

/** `data` as it was sent. */
export function decodeData(data: Uint8Array): unknown {
  return data.byteLength === 0 ? undefined : JSON.parse(decoder.decode(data));
}

/** The parts of READY's payload: the target's process id, and the secret of HELLO. */
export function encodeReady(processId: number, secret: Uint8Array): Uint8Array[] {
  const number = new Uint8Array(4);
  new DataView(number.buffer).setUint32(0, processId, true);
  return [number, secret];
}

/** Decodes READY's payload. */
export function decodeReady(payload: Uint8Array): { processId: number; secret: Uint8Array } {
  checkLength("READY", payload, 4 + SECRET_SIZE, 4 + SECRET_SIZE);
  return { processId: decodeNumber(payload, 0), secret: payload.subarray(4) };
}

/** The most connections that ACCEPT can allow: no limit. */
export const NO_LIMIT = 0xffffffff;

/** ACCEPT's payload: how many sockets the target may have open and still accept. */
export function encodeLimit(limit: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, limit, true);
  return bytes;
}

/** Decodes ACCEPT's payload. */
export function decodeLimit(payload: Uint8Array): number {
  checkLength("ACCEPT", payload, 4, 4);
  const limit = decodeNumber(payload, 0);
  if (limit === 0) throw new FrameError("ACCEPT allows no connection");
  return limit;
}

/** The most of each that one COUNTS can tell. */
export const MAX_COUNT = 0xffff;

/** COUNTS' payload. */
export function encodeCounts(accepted: number, closed: number): Uint8Array {
  const bytes = new Uint8Array(4);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, accepted, true);
  view.setUint16(2, closed, true);
  return bytes;
}

/** Decodes COUNTS' payload. */
export function decodeCounts(payload: Uint8Array): { accepted: number; closed: number } {
  checkLength("COUNTS", payload, 4, 4);
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const [accepted, closed] = [view.getUint16(0, true), view.getUint16(2, true)];
  if (accepted === 0 && closed === 0) throw new FrameError("COUNTS has nothing to tell");
  return { accepted, closed };
}

/** The payload of REJECT and STOPPED: why, cut where it is too long. */
export function encodeReason(reason: string): Uint8Array {
  const bytes = new Uint8Array(MAX_REASON);
  return bytes.subarray(0, encoder.encodeInto(reason, bytes).written);
}

/** Decodes the payload of REJECT or STOPPED. A target's words may reach a terminal: control characters are left out. */
export function decodeReason(payload: Uint8Array): string {
  checkLength("A reason", payload, 0, MAX_REASON);
  // deno-lint-ignore no-control-regex -- these are what is left out
  return new TextDecoder().decode(payload).replace(/[\u0000-\u001f\u007f-\u009f]+/g, " ");
}

function decodeNumber(bytes: Uint8Array, offset: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(offset, true);
}

function checkLength(frame: string, payload: Uint8Array, least: number, most: number): void {
  if (payload.byteLength >= least && payload.byteLength <= most) return;
  const expected = least === most ? `${least}` : `${least} to ${most}`;
  throw new FrameError(`Expected ${frame} to have ${expected} bytes, got ${payload.byteLength}`);
}
