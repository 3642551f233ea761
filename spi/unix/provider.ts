/**
 * "A customized service provider that supports shared sockets", for a system that has none of its own.
 *
 * @module
 */
import { validateDuration } from "../../internal/runtime.ts";
import { systemCalls } from "../../ffi/system.ts";
import { isRoot, userOfProcess } from "../../ffi/unix/process.ts";
import { describeSocket, type SocketDescription } from "../../ffi/unix/sockets.ts";
import { AF, PFL, SOCK, WSA_ERRORS, XP1 } from "../../structs/constants.ts";
import { WSAPROTOCOL_INFOW } from "../../structs/wsaprotocol_info.ts";
import { isEntry, type ServiceProvider, TCP_ENTRY } from "../service_provider.ts";
import { type Claim, claim, CLAIM_VERSION, claimError, claimSync, isRendezvousName, SECRET_SIZE } from "./claims.ts";
import { Rendezvous } from "./rendezvous.ts";

/**
 * The GUID of the provider of Linux and macOS, which its blobs name.
 *
 * @experimental
 */
export const UNIX_PROVIDER_ID = "6f5d2f0b-3f0e-4f7c-9b39-8d0c2a5e71d4";

/** The provider's entry in the catalogue: TCP over IPv4, shared through a rendezvous. */
const UNIX_PROTOCOL_INFO: WSAPROTOCOL_INFOW = {
  ...TCP_ENTRY,
  dwProviderFlags: PFL.PFL_MATCHES_PROTOCOL_ZERO,
  ProviderId: UNIX_PROVIDER_ID,
  szProtocol: "SCM_RIGHTS",
};

/** In what a datagram socket's service differs from that of TCP. */
const DATAGRAM_SERVICE = XP1.XP1_CONNECTIONLESS | XP1.XP1_MESSAGE_ORIENTED | XP1.XP1_IFS_HANDLES;

/** Bytes of addresses, the longest and the shortest of each family. */
const ADDRESS_SIZES: Readonly<Record<number, readonly [most: number, least: number]>> = {
  [AF.AF_INET]: [16, 16],
  [AF.AF_INET6]: [28, 28],
  [AF.AF_UNIX]: [110, 2],
};

/** The secret, in hexadecimal digits, and the rendezvous. */
const PLACE = /^(?<secret>[0-9a-f]+) (?<rendezvous>.+)$/;

/** A duplicate that waits to be claimed: where, how, and what it is. */
interface Duplicate {
  /** The source's rendezvous. */
  readonly rendezvous: string;
  /** What its claim says there. */
  readonly claim: Claim;
  /** The process it is for. */
  readonly processId: number;
  /** What kind of socket it is. */
  readonly socket: SocketDescription;
}

/**
 * Writes down as a WSAPROTOCOL_INFOW where a duplicate is.
 *
 * @param duplicate The duplicate.
 * @returns 628 bytes.
 */
export function encodeBlob({ rendezvous, claim, processId, socket }: Duplicate): Uint8Array<ArrayBuffer> {
  const [iMaxSockAddr, iMinSockAddr] = ADDRESS_SIZES[socket.family]!;
  return WSAPROTOCOL_INFOW.encode({
    ...UNIX_PROTOCOL_INFO,
    ...socket.type === SOCK.SOCK_DGRAM ? { dwServiceFlags1: DATAGRAM_SERVICE } : {},
    iAddressFamily: socket.family,
    iMaxSockAddr,
    iMinSockAddr,
    iSocketType: socket.type,
    iProtocol: socket.protocol,
    dwServiceFlags3: processId,
    dwServiceFlags4: CLAIM_VERSION,
    dwProviderReserved: claim.number,
    szProtocol: `${claim.secret.toHex()} ${rendezvous}`,
  });
}

/**
 * Reads in a WSAPROTOCOL_INFOW where a duplicate is.
 *
 * @param info 628 bytes.
 * @returns The duplicate.
 * @throws {RangeError} If the bytes are no WSAPROTOCOL_INFOW.
 * @throws {WinsockError} WSAEINVAL if it is another provider's, or of another version of this one.
 */
export function decodeBlob(info: Uint8Array): Duplicate {
  const blob = WSAPROTOCOL_INFOW.decode(info);
  if (blob.ProviderId !== UNIX_PROVIDER_ID) {
    throw claimError(WSA_ERRORS.WSAEINVAL, `provider ${blob.ProviderId} is not this system's`);
  }
  if (blob.dwServiceFlags4 !== CLAIM_VERSION) {
    // The first version left the field empty.
    const version = blob.dwServiceFlags4 || 1;
    throw claimError(
      WSA_ERRORS.WSAEINVAL,
      `it was made by another version of this library (blobs of version ${version}, and not ${CLAIM_VERSION})`,
    );
  }
  const { secret = "", rendezvous = "" } = PLACE.exec(blob.szProtocol)?.groups ?? {};
  if (secret.length !== SECRET_SIZE * 2 || !isRendezvousName(rendezvous)) {
    throw claimError(WSA_ERRORS.WSAEINVAL, "it does not name a rendezvous of this system");
  }
  return {
    rendezvous,
    claim: { number: blob.dwProviderReserved, secret: Uint8Array.fromHex(secret) },
    processId: blob.dwServiceFlags3,
    socket: { family: blob.iAddressFamily, type: blob.iSocketType, protocol: blob.iProtocol },
  };
}

/**
 * How a {@linkcode UnixProvider} shares sockets.
 *
 * @experimental
 */
export interface UnixProviderOptions {
  /** How long a duplicate waits to be opened, in milliseconds, at most 2 147 483 647. Default 30 000. */
  timeToLive?: number;
}

/**
 * Shares sockets through `SCM_RIGHTS` (unix(7)), on Linux and macOS.
 *
 * A duplicate waits in the source process until the target claims it. The blob says where: at the source's rendezvous, a
 * local socket. The source must keep running, and return to its event loop, until the claim.
 *
 * What is promised:
 *
 * - **Knowing and being.** A duplicate is given to a claim that brings its secret, 128 random bits that are in its blob and
 *   nowhere else, and comes from the process that the blob was made for. The kernel says which process has connected, and
 *   both are held by what a later process with the same id does not have: a pidfd, or on macOS a kqueue. On Linux before
 *   6.5, and on macOS, the peer is held from the moment on in which its connection is accepted.
 * - **One use.** A duplicate is given once. It is closed when it was withdrawn, or not claimed in time.
 * - **Any thread.** Each claim has a connection of its own. All threads of the target, and all copies of this library in
 *   it, can claim at the same time.
 * - **Nobody can stop the source.** It reads nothing from a process that nothing waits for, answers no claim but a right
 *   one, receives no descriptors, does a bounded amount of work in one turn of its event loop, and closes what others have
 *   sent on a pool thread. When the process has no descriptors left, claims are answered with the help of two that are kept
 *   in reserve.
 * - **Waiting costs no threads.** A pending {@linkcode UnixProvider.socket} waits through the one poller of its thread.
 *
 * The rendezvous is a socket file, `winsock-handoff-` and six random letters in `/tmp`, `/dev/shm` or `/var/tmp`, in a
 * XX no directory can be made, on Linux, the rendezvous has
 * an abstract name, to which all processes in the network namespace can connect. The directory is removed when the process
 * ends by itself or by `Deno.exit`; a process that is killed leaves it behind.
 *
 * Needs `--allow-ffi=/lib/x86_64-linux-gnu/libc.so.6`, or where the distribution keeps it;
 * `--allow-ffi=/usr/lib/libSystem.B.dylib` on macOS.
 *
 * @experimental
 */
export class UnixProvider implements ServiceProvider {
  readonly protocolInfo: WSAPROTOCOL_INFOW = UNIX_PROTOCOL_INFO;
  readonly #timeToLive: number;
  /** By the user whose processes may connect, where it matters. */
  readonly #rendezvous = new Map<number | undefined, Rendezvous>();

  /**
   * Makes the provider; nothing is opened before it is used.
   *
   * @param options How it shares sockets.
   * @throws {RangeError} If `timeToLive` is not from 0 to 2 147 483 647.
   */
  constructor({ timeToLive = 30_000 }: UnixProviderOptions = {}) {
    this.#timeToLive = validateDuration("timeToLive", timeToLive);
  }

  duplicateSocket(s: bigint, processId: number): Uint8Array<ArrayBuffer> {
    const operation = `duplicate socket ${s} for process ${processId}`;
    const socket = describeSocket(s, operation);
    const rendezvous = this.#rendezvousFor(isRoot() ? userOfProcess(processId, operation) : undefined);
    return encodeBlob({ rendezvous: rendezvous.name, claim: rendezvous.duplicate(s, processId), processId, socket });
  }

  async socket(info: Uint8Array): Promise<bigint> {
    return this.#openHere(info) ?? await claim(...this.#place(info));
  }

  /** Blocks this thread until the source answers, 5 seconds at most; at once where the source is this provider. */
  socketSync(info: Uint8Array): bigint {
    return this.#openHere(info) ?? claimSync(...this.#place(info));
  }

  withdraw(info: Uint8Array): void {
    const { rendezvous, claim } = decodeBlob(info);
    this.#own(rendezvous)?.withdraw(claim);
  }

  closeSocket(s: bigint): void {
    systemCalls().close(s);
  }

  /** What needs no other process: a new socket, or a duplicate that this provider has made. */
  #openHere(info: Uint8Array): bigint | undefined {
    if (isEntry(info, this.protocolInfo)) return systemCalls().open("0.0.0.0");
    const [rendezvous, claim] = this.#place(info);
    return this.#own(rendezvous)?.take(claim);
  }

  #own(name: string): Rendezvous | undefined {
    return this.#rendezvous.values().find((rendezvous) => rendezvous.name === name);
  }

  #rendezvousFor(user: number | undefined): Rendezvous {
    const known = this.#rendezvous.get(user);
    if (known !== undefined) return known;
    const opened = new Rendezvous(this.#timeToLive, user);
    this.#rendezvous.set(user, opened);
    return opened;
  }

  #place(info: Uint8Array): [rendezvous: string, claim: Claim] {
    const { rendezvous, claim } = decodeBlob(info);
    return [rendezvous, claim];
  }
}
