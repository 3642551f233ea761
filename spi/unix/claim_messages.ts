/**
 * How source and target of the unix provider speak over a connection to the rendezvous.
 *
 * @module
 */

/** A claim is the duplicate's number, and whether further answers may come ahead of their claims: 8 bytes, little-endian. */
export const CLAIM_SIZE = 8;
/** Further answers may. */
export const CLAIM_AHEAD = 1;
/** No claim: the descriptor of that number has come. Said where its sender must keep it until then. */
export const CLAIM_RECEIVED = 2;

/**
 * An answer says to which claim, and 0 with the descriptor or a Winsock error code without: 8 bytes. It may come before
 * the claim, which is then not made; WSAECANCELLED takes such an answer back, and WSAEDISCON is the last of all.
 */
export interface Answer {
  readonly number: number;
  readonly code: number;
}

/** Encodes a claim. */
export function encodeClaim(number: number, ahead = 0): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(CLAIM_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, number, true);
  view.setUint32(4, ahead, true);
  return bytes;
}

/** Encodes an answer. */
export function encodeAnswer({ number, code }: Answer): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, number, true);
  view.setUint32(4, code, true);
  return bytes;
}

/** Decodes an answer of 8 bytes. */
export function decodeAnswer(bytes: Uint8Array): Answer {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return { number: view.getUint32(0, true), code: view.getUint32(4, true) };
}
