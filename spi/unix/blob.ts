/**
 * What the unix provider writes into a WSAPROTOCOL_INFOW, and how two processes speak about it.
 *
 * @module
 */
import { WinsockError } from "../../ffi/winsock_error.ts";
import { WSA_ERRORS } from "../../structs/winsock_errors.ts";
import { WSAPROTOCOL_INFOW } from "../../structs/wsaprotocol_info.ts";
import { isRendezvousName } from "./rendezvous_socket.ts";

/** The unix provider's GUID. */
export const UNIX_PROVIDER_ID = "6f5d2f0b-3f0e-4f7c-9b39-8d0c2a5e71d4";

/** `XP1_GUARANTEED_DELIVERY | XP1_GUARANTEED_ORDER | XP1_GRACEFUL_CLOSE | XP1_IFS_HANDLES`: a stream of real descriptors. */
const STREAM_SERVICES = 0x00000002 | 0x00000004 | 0x00000020 | 0x00020000;
/** `XP1_CONNECTIONLESS | XP1_MESSAGE_ORIENTED | XP1_IFS_HANDLES`: datagrams. */
const DATAGRAM_SERVICES = 0x00000001 | 0x00000008 | 0x00020000;
/** `PFL_MATCHES_PROTOCOL_ZERO`. */
const PFL_MATCHES_PROTOCOL_ZERO = 0x00000008;

/** The provider's entry in the catalogue: TCP over IPv4, shared through a rendezvous. */
export const UNIX_PROTOCOL_INFO: WSAPROTOCOL_INFOW = {
  dwServiceFlags1: STREAM_SERVICES,
  dwServiceFlags2: 0,
  dwServiceFlags3: 0,
  dwServiceFlags4: 0,
  dwProviderFlags: PFL_MATCHES_PROTOCOL_ZERO,
  ProviderId: UNIX_PROVIDER_ID,
  dwCatalogEntryId: 1,
  ProtocolChain: { ChainLen: 1, ChainEntries: [0, 0, 0, 0, 0, 0, 0] },
  iVersion: 2,
  iAddressFamily: 2,
  iMaxSockAddr: 28,
  iMinSockAddr: 16,
  iSocketType: 1,
  iProtocol: 6,
  iProtocolMaxOffset: 0,
  iNetworkByteOrder: 0,
  iSecurityScheme: 0,
  dwMessageSize: 0,
  dwProviderReserved: 0,
  szProtocol: "SCM_RIGHTS",
};

/** In what the entry of UDP differs from that of TCP. */
const DATAGRAM = { dwServiceFlags1: DATAGRAM_SERVICES, iSocketType: 2, iProtocol: 17 };

/** A duplicate that waits to be claimed: the rendezvous, which of its offers, and what it is. */
export interface Offer {
  /** The source's rendezvous. */
  readonly rendezvous: string;
  /** The offer's number there, never used twice. */
  readonly number: number;
  /** The process it is for. */
  readonly processId: number;
  /** Whether it is a datagram socket. */
  readonly datagram: boolean;
}

/**
 * Writes an offer down as a WSAPROTOCOL_INFOW.
 *
 * @param offer The offer.
 * @returns 628 bytes.
 */
export function encodeOffer({ rendezvous, number, processId, datagram }: Offer): Uint8Array<ArrayBuffer> {
  return WSAPROTOCOL_INFOW.encode({
    ...UNIX_PROTOCOL_INFO,
    ...datagram ? DATAGRAM : {},
    dwServiceFlags3: processId,
    dwProviderReserved: number,
    szProtocol: rendezvous,
  });
}

/**
 * Reads the offer in a WSAPROTOCOL_INFOW.
 *
 * @param info 628 bytes.
 * @returns The offer.
 * @throws {RangeError} If the bytes are no WSAPROTOCOL_INFOW.
 * @throws {WinsockError} WSAEINVAL if it is another provider's.
 */
export function decodeOffer(info: Uint8Array): Offer {
  const { ProviderId, dwServiceFlags3, dwProviderReserved, iSocketType, szProtocol } = WSAPROTOCOL_INFOW.decode(info);
  if (ProviderId !== UNIX_PROVIDER_ID || !isRendezvousName(szProtocol)) {
    throw new WinsockError(WSA_ERRORS.WSAEINVAL, {
      operation: "open a shared socket",
      functionName: "WSPSocket",
      detail: `provider ${ProviderId} is not this system's`,
    });
  }
  return {
    rendezvous: szProtocol,
    number: dwProviderReserved,
    processId: dwServiceFlags3,
    datagram: iSocketType === DATAGRAM.iSocketType,
  };
}

/** A claim is the offer's number, and whether further answers may come ahead of their claims: 8 bytes, little-endian. */
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
