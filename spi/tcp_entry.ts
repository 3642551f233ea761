/**
 * What the catalogue entries of this library's own providers have in common.
 *
 * @module
 */
import { AF, IPPROTO, SOCK, XP1 } from "../structs/constants.ts";
import { WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";

/** A base provider's entry of TCP over IPv4 and IPv6, whose sockets are descriptors of the system; not whose it is. */
export const TCP_ENTRY: Omit<WSAPROTOCOL_INFOW, "ProviderId" | "szProtocol"> = {
  ...WSAPROTOCOL_INFOW.decode(new Uint8Array(WSAPROTOCOL_INFOW.size)),
  dwServiceFlags1: XP1.XP1_GUARANTEED_DELIVERY | XP1.XP1_GUARANTEED_ORDER | XP1.XP1_GRACEFUL_CLOSE |
    XP1.XP1_IFS_HANDLES,
  dwCatalogEntryId: 1,
  ProtocolChain: { ChainLen: 1, ChainEntries: [0, 0, 0, 0, 0, 0, 0] },
  iVersion: 2,
  iAddressFamily: AF.AF_INET,
  iMaxSockAddr: 28,
  iMinSockAddr: 16,
  iSocketType: SOCK.SOCK_STREAM,
  iProtocol: IPPROTO.IPPROTO_TCP,
};
