/**
 * Frames: what source and target say to each other, as bytes. `docs/protocol.md` describes them.
 *
 * @module
 */
import { concat } from "@std/bytes/concat";

/** Version of the protocol. */
export const PROTOCOL_VERSION = 1;
/** `HOFF` in memory: every frame begins with it. */
const MAGIC = 0x46464f48;
/** Bytes in front of every payload. */
export const HEADER_SIZE = 16;
/** Longest payload of a frame, in bytes; a header that announces more is refused before anything is stored. */
export const MAX_PAYLOAD = 3 * 1024 * 1024;

/** What a frame says. Below 16 from source to target, from 16 on from target to source. */
export const FrameType = {
  /** First frame: who speaks to whom, and the control socket the answers come back on. */
  HELLO: 1,
  /** A socket, for the target to claim. */
  OFFER: 2,
  /** The target has the socket now; the source closes its copy. */
  COMMIT: 3,
  /** The offer is void; the target closes its copy. */
  WITHDRAW: 4,
  /** No more offers. */
  END: 5,
  /** First answer: the target has the control socket. */
  READY: 16,
  /** The target has claimed the socket and wants it. */
  ACCEPT: 17,
  /** The target does not take the socket. */
  REJECT: 18,
  /** The target has closed, or given up, a socket it was given. */
  DONE: 19,
} as const;

/** One of {@linkcode FrameType}'s numbers. */
export type FrameType = typeof FrameType[keyof typeof FrameType];

const TYPES: ReadonlySet<number> = new Set(Object.values(FrameType));
const WITHOUT_PAYLOAD: ReadonlySet<number> = new Set([
  FrameType.COMMIT,
  FrameType.WITHDRAW,
  FrameType.END,
  FrameType.ACCEPT,
  FrameType.DONE,
]);

/** One frame. */
export interface Frame {
  readonly type: FrameType;
  /** Which hand-off it is about; 0 for frames that are about none. */
  readonly sequence: number;
  readonly payload: Uint8Array;
}

/** The bytes on the wire are no frames. */
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
  const header = new Uint8Array(HEADER_SIZE);
  const view = new DataView(header.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint8(4, PROTOCOL_VERSION);
  view.setUint8(5, type);
  view.setUint32(8, sequence, true);
  view.setUint32(12, payload.reduce((length, part) => length + part.byteLength, 0), true);
  return concat([header, ...payload]);
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
   * @throws {FrameError} If the bytes are no frames of this version.
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
  // Refused at once: who waited for the payload would hold the socket the frame is about for as long.
  if (payloadLength > 0 && WITHOUT_PAYLOAD.has(type)) {
    throw new FrameError(`A frame of type ${type} announces ${payloadLength} bytes, and has no payload`);
  }
  return { type: type as FrameType, sequence: view.getUint32(8, true), payloadLength };
}
