/**
 * "A customized service provider that supports shared sockets", for a system that cannot share sockets itself.
 *
 * @module
 */
import { check, checkDuplication, checkOptions, duration, HANDLE } from "../../internal/options.ts";
import { systemCalls } from "../../ffi/system.ts";
import { isRoot, userOfProcess } from "../../ffi/unix/process.ts";
import { describeSocket, type SocketDescription } from "../../ffi/unix/sockets.ts";
import { AF, PFL, SOCK, WSA_ERRORS, XP1 } from "../../structs/constants.ts";
import { WSAPROTOCOL_INFOW } from "../../structs/wsaprotocol_info.ts";
import { isEntry, type ServiceProvider, TCP_ENTRY } from "../service_provider.ts";
import { type Claim, claim, CLAIM_VERSION, claimError, claimSync, isRendezvousName, SECRET_SIZE } from "./claims.ts";
import { Rendezvous } from "./rendezvous.ts";

/**
 * The GUID of the provider of Linux and macOS, which is in its blobs.
 *
 * @experimental
 */
export const UNIX_PROVIDER_ID = "6f5d2f0b-3f0e-4f7c-9b39-8d0c2a5e71d4";

/** The provider's entry in the catalog: TCP over IPv4, shared through a rendezvous. */
const UNIX_PROTOCOL_INFO: WSAPROTOCOL_INFOW = {
  ...TCP_ENTRY,
  dwProviderFlags: PFL.PFL_MATCHES_PROTOCOL_ZERO,
  ProviderId: UNIX_PROVIDER_ID,
  szProtocol: "SCM_RIGHTS",
};

/** The flags in which the service of a datagram socket differs from that of TCP. */
const DATAGRAM_SERVICE = XP1.XP1_CONNECTIONLESS | XP1.XP1_MESSAGE_ORIENTED | XP1.XP1_IFS_HANDLES;

/** The longest and the shortest address of each family, in bytes. */
const ADDRESS_SIZES: Readonly<Record<number, readonly [most: number, least: number]>> = {
  [AF.AF_INET]: [16, 16],
  [AF.AF_INET6]: [28, 28],
  [AF.AF_UNIX]: [110, 2],
};

/** The secret in hexadecimal digits, and the rendezvous. */
const PLACE = /^(?<secret>[0-9a-f]+) (?<rendezvous>.+)$/;

/** A duplicate that waits to be claimed, as it is described in a blob. */
interface Duplicate {
  /** The rendezvous of the source. */
  readonly rendezvous: string;
  /** The claim for the duplicate. */
  readonly claim: Claim;
  /** The process that it is for. */
  readonly processId: number;
  /** The kind of the socket. */
  readonly socket: SocketDescription;
}

/**
 * Encodes a duplicate as a WSAPROTOCOL_INFOW.
 *
 * @param duplicate The duplicate.
 * @returns The blob, 628 bytes.
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
 * Decodes a duplicate from a WSAPROTOCOL_INFOW.
 *
 * @param info The blob, 628 bytes.
 * @returns The duplicate.
 * @throws {RangeError} If the bytes are not a WSAPROTOCOL_INFOW.
 * @throws {WinsockError} WSAEINVAL if the blob is from another provider, or from another version of this one.
 */
export function decodeBlob(info: Uint8Array): Duplicate {
  const blob = WSAPROTOCOL_INFOW.decode(info);
  if (blob.ProviderId !== UNIX_PROVIDER_ID) {
    throw claimError(WSA_ERRORS.WSAEINVAL, `provider ${blob.ProviderId} is not that of this system`);
  }
  if (blob.dwServiceFlags4 !== CLAIM_VERSION) {
    // Version 1 left this field empty.
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
 * The options of a {@linkcode UnixProvider}.
 *
 * @experimental
 */
export interface UnixProviderOptions {
  /** The time in milliseconds for which a duplicate waits to be opened, at most 2 147 483 647. Defaults to `30_000`. */
  timeToLive?: number;
}

/**
 * Shares sockets through `SCM_RIGHTS` (unix(7)), on Linux and macOS.
 *
 * A duplicate waits in the source process until the target claims it. The blob names the rendezvous of the source, a
 * local socket. The source must keep running, and return to its event loop, until the claim.
 *
 * The provider guarantees the following:
 *
 * - **Secret and process.** A claim must contain the secret of the duplicate: 128 random bits that are only in its
 *   blob. It must also come from the process that the blob was made for. The kernel reports which process has
 *   connected. Both processes are identified by a reference that never refers to a later process with the same id: a
 *   pidfd, or on macOS a kqueue. On Linux before 6.5, and on macOS, the reference to the peer is made when its
 *   connection is accepted.
 * - **One use.** A duplicate is given once. It is closed when it is withdrawn, or is not claimed in time.
 * - **Any thread.** Each claim has its own connection. All threads of the target, and all copies of this library in it,
 *   can claim at the same time.
 * - **No peer can stop the source.** The source does not read data from a process without a waiting duplicate, and
 *   answers only valid claims. It receives no descriptors. It does a bounded amount of work in one turn of its event
 *   loop, and closes data from peers on a pool thread. If the process has no descriptors left, it answers claims with
 *   two descriptors kept in reserve.
 * - **Waiting needs no further threads.** A pending {@linkcode UnixProvider.socket} waits through the single poller of
 *   its thread.
 *
 * The rendezvous is a socket file in its own directory, which is named `winsock-handoff-` with six random letters, in
 * `/tmp`, `/dev/shm` or `/var/tmp`. Only this user may enter the directory. A source that runs as root has another
 * rendezvous for each user whose processes it duplicates for. The source and the target must see the same files there.
 * If a directory cannot be made, on Linux, the rendezvous has an abstract name, to which all processes in the network
 * namespace can connect. The directory is removed when the process exits normally or by `Deno.exit`; a process that is
 * killed leaves it behind.
 *
 * Needs `--allow-ffi=/lib/x86_64-linux-gnu/libc.so.6`, or the path of libc on the distribution;
 * `--allow-ffi=/usr/lib/libSystem.B.dylib` on macOS.
 *
 * @experimental
 */
export class UnixProvider implements ServiceProvider {
  readonly protocolInfo: WSAPROTOCOL_INFOW = UNIX_PROTOCOL_INFO;
  readonly #timeToLive: number;
  /** The rendezvous for each user whose processes may connect, if that matters. */
  readonly #rendezvous = new Map<number | undefined, Rendezvous>();

  /**
   * Makes the provider. No resource is opened before its first use.
   *
   * @param options The options of the provider.
   * @throws {RangeError} If `timeToLive` is not from 0 to 2 147 483 647.
   */
  constructor(options: UnixProviderOptions = {}) {
    checkOptions(options, { timeToLive: duration(0) });
    this.#timeToLive = options.timeToLive ?? 30_000;
  }

  duplicateSocket(s: bigint, processId: number): Uint8Array<ArrayBuffer> {
    checkDuplication(s, processId);
    const operation = `duplicate socket ${s} for process ${processId}`;
    const socket = describeSocket(s, operation);
    const rendezvous = this.#rendezvousFor(isRoot() ? userOfProcess(processId, operation) : undefined);
    return encodeBlob({ ...rendezvous.duplicate(s, processId), processId, socket });
  }

  async socket(info: Uint8Array): Promise<bigint> {
    return this.#openHere(info) ?? await claim(...this.#place(info));
  }

  /**
   * Blocks this thread until the source answers, for at most 5 seconds. Does not wait if this provider is the source.
   */
  socketSync(info: Uint8Array): bigint {
    return this.#openHere(info) ?? claimSync(...this.#place(info));
  }

  withdraw(info: Uint8Array): void {
    const { rendezvous, claim } = decodeBlob(info);
    this.#own(rendezvous)?.withdraw(claim);
  }

  closeSocket(s: bigint): void {
    check("s", s, HANDLE);
    systemCalls().close(s);
  }

  /** Opens a socket without another process: a new socket, or a duplicate that this provider has made. */
  #openHere(info: Uint8Array): bigint | undefined {
    if (isEntry(info, this.protocolInfo)) return systemCalls().open("0.0.0.0");
    const [rendezvous, claim] = this.#place(info);
    return this.#own(rendezvous)?.take(claim);
  }

  #own(name: string): Rendezvous | undefined {
    return this.#rendezvous.values().find((rendezvous) => rendezvous.has(name));
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
