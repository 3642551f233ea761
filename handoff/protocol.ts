/**
 * The protocol between the source and the target, as bytes: frames, and their payloads. `docs/protocol.md` describes
 * them.
 *
 * @module
 */
import { concat } from "@std/bytes/concat";
import { limit, printable, type Rule, shown } from "../internal/options.ts";
import { WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";

/** The version of the protocol. */
const PROTOCOL_VERSION = 2;
/** `HOFF` in memory. Every frame begins with it. */
const MAGIC = 0x46464f48;
/** The size of the header of a frame, in bytes. */
export const HEADER_SIZE = 16;
/** The largest payload of a frame, in bytes. A header with a larger size is refused before anything is stored. */
export const MAX_PAYLOAD = 3 * 1024 * 1024;
/** The largest size of `data`, as JSON in UTF-8, in bytes. */
export const MAX_DATA = 1024 * 1024;
/** The largest number of initial bytes that are sent with a socket. */
export const MAX_INITIAL_BYTES = 1024 * 1024;
/** The largest number of bytes of OFFER frames that are not answered, unless a single frame is larger. */
export const MAX_OFFERED_BYTES = 4 * 1024 * 1024;
/** The largest size of a reason in UTF-8, in bytes. */
export const MAX_REASON = 4096;
/** The size of the secret that HELLO contains and READY returns, in bytes. */
export const SECRET_SIZE = 16;

/**
 * The types of frames. Those below 16 go from the source to the target; those from 16 on go from the target to the
 * source. OFFER, WITHDRAW, TAKEN and REJECT also go the other way: when the target hands a socket back, or sends a
 * message.
 */
export const FrameType = {
  /** The first frame: the processes at the ends of the channel, and how the target gets the rest of the channel. */
  HELLO: 1,
  /** Offers a socket, or a message. */
  OFFER: 2,
  /** The offer was withdrawn. The other process may close its duplicate now. */
  WITHDRAW: 3,
  /** There are no more offers. */
  END: 4,
  /** The target may accept on a shared listener, up to a limit. */
  ACCEPT: 5,
  /** The target must not accept on the shared listener for now. */
  PAUSE: 6,
  /** The target must close its duplicate of the shared listener. */
  STOP: 7,
  /** The first answer: the target has the whole channel. */
  READY: 16,
  /** The socket or message was taken. */
  TAKEN: 17,
  /** The socket or message is not taken, or its offer was found withdrawn. */
  REJECT: 18,
  /** The target has closed or released a socket that it had taken. */
  DONE: 19,
  /** The target takes no more sockets. */
  LEAVE: 20,
  /** The answer to ACCEPT. */
  ACCEPTING: 21,
  /** The answer to PAUSE: the target does not accept on the listener until the next ACCEPT. */
  PAUSED: 22,
  /** The target has closed its duplicate of a shared listener: the answer to STOP, or without a request. */
  STOPPED: 23,
  /** The number of connections that the target has accepted on a shared listener, and closed, since the last COUNTS. */
  COUNTS: 24,
} as const;

/** A type of a frame: one of the numbers of {@linkcode FrameType}. */
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

/** A frame. */
export interface Frame {
  readonly type: FrameType;
  /** The number of the hand-off; 0 for frames that are not about a hand-off. */
  readonly sequence: number;
  readonly payload: Uint8Array;
}

/** The error of bytes that are not frames. */
export class FrameError extends Error {
  override readonly name = "FrameError";
}

/**
 * Encodes a frame.
 *
 * @param type The type of the frame.
 * @param sequence The number of the hand-off.
 * @param payload The payload, in parts.
 * @returns The bytes of the frame.
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

/** The largest number of pieces in which an incomplete frame is kept. Small pieces need more memory than their bytes. */
const MAX_PIECES = 256;

/** Decodes frames from bytes as they arrive. */
export class FrameDecoder {
  #chunks: Uint8Array[] = [];
  #length = 0;
  readonly #maxPayload: number;
  readonly #maxOffer: number;

  /**
   * @param maxPayload The largest payload to accept, in bytes.
   * @param maxOffer The largest payload of an OFFER, in bytes. Defaults to `maxPayload`.
   */
  constructor(maxPayload = MAX_PAYLOAD, maxOffer = maxPayload) {
    this.#maxPayload = maxPayload;
    this.#maxOffer = maxOffer;
  }

  /**
   * Adds bytes, and decodes the frames that are complete.
   *
   * @param chunk The next bytes.
   * @returns The frames that end in these bytes, in order. Their payloads are views.
   * @throws {FrameError} If the bytes are not frames of this version.
   */
  *push(chunk: Uint8Array): Generator<Frame, void, void> {
    this.#chunks.push(chunk);
    this.#length += chunk.byteLength;
    while (this.#length >= HEADER_SIZE) {
      const { type, sequence, payloadLength } = this.#decodeHeader(this.#peek(HEADER_SIZE));
      const size = HEADER_SIZE + payloadLength;
      if (this.#length < size) {
        if (this.#chunks.length > MAX_PIECES) this.#chunks = [concat(this.#chunks)];
        return;
      }
      const frame = this.#peek(size);
      this.#chunks = [this.#chunks[0]!.subarray(size)];
      this.#length -= size;
      yield { type, sequence, payload: frame.subarray(HEADER_SIZE) };
    }
  }

  #decodeHeader(header: Uint8Array): { type: FrameType; sequence: number; payloadLength: number } {
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
    const most = type === FrameType.OFFER ? this.#maxOffer : this.#maxPayload;
    if (payloadLength > most) throw new FrameError(`A frame announces ${payloadLength} bytes, more than ${most}`);
    // Refused at once. Waiting for the payload would block the socket that the frame is about.
    if (payloadLength > 0 && !WITH_PAYLOAD.has(type)) {
      throw new FrameError(`A frame of type ${type} announces ${payloadLength} bytes, but has no payload`);
    }
    return { type: type as FrameType, sequence: view.getUint32(8, true), payloadLength };
  }

  /** Returns the next `size` bytes in one piece. Chunks are joined only when a frame needs them. */
  #peek(size: number): Uint8Array {
    if (this.#chunks[0]!.byteLength < size) this.#chunks = [concat(this.#chunks)];
    return this.#chunks[0]!.subarray(0, size);
  }
}

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

/** How the target gets the parts of the channel that are not in HELLO. */
export const ChannelKind = {
  /** Windows: the target has a handle of a pipe with the frames. Answers go to the socket whose blob is in HELLO. */
  GIVEN: 0,
  /** Linux, macOS: the target inherited the descriptors, whose numbers are in HELLO. */
  INHERITED: 1,
  /** Linux, macOS: the descriptors are sent over a local socket, whose path is in HELLO. */
  PASSED: 2,
} as const;

/** A kind of channel: one of the numbers of {@linkcode ChannelKind}. */
export type ChannelKind = typeof ChannelKind[keyof typeof ChannelKind];

/**
 * The descriptors of a channel: for frames, for descriptors, for answers, for decisions. On Windows, the
 * handles of the pipe for frames, of the event that is set after each write, and of the source's process.
 */
export type ChannelDescriptors = readonly [frames: number, descriptors: number, answers: number, decisions: number];

/** The content of HELLO. */
export interface Hello {
  readonly sourceProcessId: number;
  readonly targetProcessId: number;
  readonly kind: ChannelKind;
  /** How the table of decisions is implemented, one of `DecisionMeans`. */
  readonly means: number;
  /** The secret that READY must return. */
  readonly secret: Uint8Array;
  /** The numbers of the target's descriptors; 0 for those that it does not have yet. */
  readonly descriptors: ChannelDescriptors;
  /** Whether the target may hand sockets back. It may send messages in any case. */
  readonly takesSockets: boolean;
  /**
   * How the target gets the rest of the channel: a WSAPROTOCOL_INFOW of 628 bytes, a path of at most 107 bytes, or
   * nothing.
   */
  readonly way: Uint8Array;
}

const HELLO_SIZE = 52;
/** The smallest and largest size of `way`, by kind. */
const WAY_SIZE: Readonly<Record<ChannelKind, readonly [least: number, most: number]>> = {
  [ChannelKind.GIVEN]: [WSAPROTOCOL_INFOW.size, WSAPROTOCOL_INFOW.size],
  [ChannelKind.INHERITED]: [0, 0],
  [ChannelKind.PASSED]: [1, 107],
};

/** Returns the parts of HELLO's payload: 52 bytes, and `way`. */
export function encodeHello(hello: Hello): Uint8Array[] {
  const bytes = new Uint8Array(HELLO_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, hello.sourceProcessId, true);
  view.setUint32(4, hello.targetProcessId, true);
  view.setUint32(8, hello.kind, true);
  view.setUint32(12, hello.means, true);
  bytes.set(hello.secret, 16);
  for (const [index, descriptor] of hello.descriptors.entries()) view.setUint32(32 + index * 4, descriptor, true);
  view.setUint32(48, hello.takesSockets ? 1 : 0, true);
  return [bytes, hello.way];
}

/** Decodes HELLO's payload. The parts are views. */
export function decodeHello(payload: Uint8Array): Hello {
  checkLength("HELLO", payload, HELLO_SIZE, HELLO_SIZE + WSAPROTOCOL_INFOW.size);
  const number = (offset: number) => decodeNumber(payload, offset);
  const kind = number(8);
  const way = payload.subarray(HELLO_SIZE);
  const takesSockets = number(48);
  if (takesSockets > 1) throw new FrameError(`HELLO has ${takesSockets} at 48, not 0 or 1`);
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
    takesSockets: takesSockets === 1,
    way,
  };
}

/** The kinds of sockets in OFFER. */
export const OfferedKind = {
  connection: 1,
  listener: 2,
  datagram: 3,
  /** A connection that the source keeps. Closing it in the target must not end the connection. */
  copy: 4,
  /** A listener that the source keeps. The target accepts on it when it is told to. */
  shared: 5,
  /** A message: no socket. */
  message: 6,
} as const;

/** The content of OFFER. */
export interface OfferPayload {
  /** What is offered: one of the numbers of {@linkcode OfferedKind}. */
  readonly kind: number;
  /** The target's handle of the decision; 0 if the slot is enough. */
  readonly decision: bigint;
  /** The blob of the socket, 628 bytes; empty if its descriptor was sent, or if there is no socket. */
  readonly blob: Uint8Array;
  /** The `data` as JSON in UTF-8; empty if there is no data. */
  readonly data: Uint8Array;
  readonly initialBytes: Uint8Array;
}

/**
 * The size of the part before the blob: kind, length of the blob, length of the data (4 bytes each), decision (8
 * bytes).
 */
export const OFFER_SIZE = 20;

/** The largest payload of an OFFER of a message. */
export const MAX_MESSAGE_OFFER = OFFER_SIZE + MAX_DATA;

/** Returns the parts of OFFER's payload. */
export function encodeOffer({ kind, decision, blob, data, initialBytes }: OfferPayload): Uint8Array[] {
  const bytes = new Uint8Array(OFFER_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, kind, true);
  view.setUint32(4, blob.byteLength, true);
  view.setUint32(8, data.byteLength, true);
  view.setBigUint64(12, decision, true);
  return [bytes, blob, data, initialBytes];
}

/** Decodes OFFER's payload. The parts are views. */
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
  if (kind === OfferedKind.message && (blobSize > 0 || dataEnd < payload.byteLength)) {
    throw new FrameError("OFFER of a message has a socket or initial bytes");
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

/** Encodes `data`. Throws a `TypeError` if JSON cannot express it, a `RangeError` if it is too long. */
export function encodeData(data: unknown, name: string = "data"): Uint8Array {
  if (data === undefined) return NO_BYTES;
  const text = asJson(data, name);
  if (text === undefined) throw new TypeError(`Invalid \`${name}\`: must be a JSON value, got ${shown(data)}`);
  const bytes = encoder.encode(text);
  if (bytes.byteLength > MAX_DATA) {
    throw new RangeError(`Invalid \`${name}\`: must have at most ${MAX_DATA} bytes as JSON, got ${bytes.byteLength}`);
  }
  return bytes;
}

/** Returns a value as JSON; `undefined` if JSON cannot express it, such as a function. */
function asJson(data: unknown, name: string): string | undefined {
  try {
    return JSON.stringify(data);
  } catch (cause) {
    const problem = printable(cause instanceof Error ? cause.message : String(cause));
    throw new TypeError(`Invalid \`${name}\`: must be a JSON value: ${problem}`, { cause });
  }
}

/** Decodes `data`. */
export function decodeData(data: Uint8Array): unknown {
  return data.byteLength === 0 ? undefined : JSON.parse(decoder.decode(data));
}

/** Returns the parts of READY's payload: the target's process id, and the secret of HELLO. */
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

/** The limit of ACCEPT that means that there is no limit. */
export const NO_LIMIT = 0xffffffff;
/** The limit of open sockets, for a target that accepts or may have sockets. */
export const SHARE_LIMIT: Rule = limit(1, NO_LIMIT - 1);

/** Encodes ACCEPT's payload: the number of sockets that the target may have open and still accept. */
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

/** The largest number in COUNTS. */
export const MAX_COUNT = 0xffff;

/** Encodes COUNTS' payload. */
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
  if (accepted === 0 && closed === 0) throw new FrameError("COUNTS reports no connections");
  return { accepted, closed };
}

/** Encodes the payload of REJECT and STOPPED: the reason, truncated if it is too long. */
export function encodeReason(reason: string): Uint8Array {
  const bytes = new Uint8Array(MAX_REASON);
  return bytes.slice(0, encoder.encodeInto(reason, bytes).written);
}

/**
 * Decodes the payload of REJECT or STOPPED. The target's words may be printed to a terminal, so that control characters
 * are replaced.
 */
export function decodeReason(payload: Uint8Array): string {
  checkLength("A reason", payload, 0, MAX_REASON);
  return printable(new TextDecoder().decode(payload));
}

function decodeNumber(bytes: Uint8Array, offset: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(offset, true);
}

function checkLength(frame: string, payload: Uint8Array, least: number, most: number): void {
  if (payload.byteLength >= least && payload.byteLength <= most) return;
  const expected = least === most ? `${least}` : `${least} to ${most}`;
  throw new FrameError(`Expected ${frame} to have ${expected} bytes, got ${payload.byteLength}`);
}
