/**
 * What the unix provider writes into a WSAPROTOCOL_INFOW.
 *
 * @module
 */
import { WinsockError } from "../../ffi/winsock_error.ts";
import { AF, IPPROTO, PFL, SOCK, XP1 } from "../../structs/constants.ts";
import { WSA_ERRORS } from "../../structs/winsock_errors.ts";
import { WSAPROTOCOL_INFOW } from "../../structs/wsaprotocol_info.ts";
import { TCP_ENTRY } from "../tcp_entry.ts";
import { isRendezvousName } from "./rendezvous_socket.ts";

/** The GUID of the provider of Linux and macOS, which its blobs name. */
export const UNIX_PROVIDER_ID = "6f5d2f0b-3f0e-4f7c-9b39-8d0c2a5e71d4";

/** The provider's entry in the catalogue: TCP over IPv4, shared through a rendezvous. */
export const UNIX_PROTOCOL_INFO: WSAPROTOCOL_INFOW = {
  ...TCP_ENTRY,
  dwProviderFlags: PFL.PFL_MATCHES_PROTOCOL_ZERO,
  ProviderId: UNIX_PROVIDER_ID,
  szProtocol: "SCM_RIGHTS",
};

/** In what the entry of UDP differs from that of TCP. */
const DATAGRAM = {
  dwServiceFlags1: XP1.XP1_CONNECTIONLESS | XP1.XP1_MESSAGE_ORIENTED | XP1.XP1_IFS_HANDLES,
  iSocketType: SOCK.SOCK_DGRAM,
  iProtocol: IPPROTO.IPPROTO_UDP,
};

/** What a family's entry says of it, in Windows' numbers on every system. */
const FAMILIES = {
  IPv4: {},
  IPv6: { iAddressFamily: AF.AF_INET6, iMinSockAddr: 28 },
  local: { iAddressFamily: AF.AF_UNIX, iProtocol: 0, iMinSockAddr: 2, iMaxSockAddr: 110 },
};

/** A duplicate that waits to be claimed: at which rendezvous, which of those there, and what it is. */
export interface Duplicate {
  /** The source's rendezvous. */
  readonly rendezvous: string;
  /** Its number there, never used twice. */
  readonly number: number;
  /** The process it is for. */
  readonly processId: number;
  /** Whether it is a datagram socket. */
  readonly datagram: boolean;
}

/** The address family that a local address belongs to. */
export function familyOf(address: Deno.NetAddr | Deno.UnixAddr): keyof typeof FAMILIES {
  if ("path" in address) return "local";
  return address.hostname.includes(":") ? "IPv6" : "IPv4";
}

/**
 * Writes down as a WSAPROTOCOL_INFOW where a duplicate is.
 *
 * @param duplicate The duplicate.
 * @param family The address family of its socket, for whoever looks at the blob.
 * @returns 628 bytes.
 */
export function encodeBlob(
  { rendezvous, number, processId, datagram }: Duplicate,
  family: keyof typeof FAMILIES = "IPv4",
): Uint8Array<ArrayBuffer> {
  return WSAPROTOCOL_INFOW.encode({
    ...UNIX_PROTOCOL_INFO,
    ...datagram ? DATAGRAM : {},
    ...FAMILIES[family],
    dwServiceFlags3: processId,
    dwProviderReserved: number,
    szProtocol: rendezvous,
  });
}

/**
 * Reads in a WSAPROTOCOL_INFOW where a duplicate is.
 *
 * @param info 628 bytes.
 * @returns The duplicate.
 * @throws {RangeError} If the bytes are no WSAPROTOCOL_INFOW.
 * @throws {WinsockError} WSAEINVAL if it is another provider's.
 */
export function decodeBlob(info: Uint8Array): Duplicate {
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
