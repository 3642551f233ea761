/**
 * The source's side of the unix provider: the rendezvous, where target processes claim their duplicates.
 *
 * Every process of one user can connect, and in some cases all processes on the machine. A peer must therefore not be
 * able to cause much work, to get in the way of others, or to block this thread:
 *
 * - The peer is identified before anything is read. It is disconnected if there is no waiting duplicate for it.
 * - An address at which peers have connected in vain is not used for further duplicates: those get a new address. The
 *   others cannot derive it from the former one, and what they do at the former one does not delay it. Peers at former
 *   addresses get a small share of the time.
 * - Data is only read with `MSG_PEEK`. Reading on would close a descriptor that came with it, and the last close of a
 *   socket that lingers waits. For the same reason, connections are closed on a pool thread.
 * - A claim that is not valid is not answered: its connection is closed.
 * - Two descriptors are kept in reserve, so that claims can be answered when the process has no other descriptors left.
 *
 * @module
 */
import { AF_UNIX } from "../../ffi/socket_address.ts";
import { acceptNow, duplicateFrom, newSocket } from "../../ffi/unix/descriptors.ts";
import { closeElsewhere, CloseQueue, errno, isErrno, libc, unixError, unixSystem } from "../../ffi/unix/libc.ts";
import { refuseDescriptors } from "../../ffi/unix/local_sockets.ts";
import { NativeMessage } from "../../ffi/unix/scm_rights.ts";
import { POLLIN, PollProbe } from "../../ffi/unix/io.ts";
import { readableWithin, unixPoller } from "../../ffi/unix/poller.ts";
import { peerProcessId, type ProcessReference, referToPeer, referToProcess } from "../../ffi/unix/process.ts";
import { nextTurn, unreferenced } from "../../internal/runtime.ts";
import type { PollWaiter } from "../../ffi/poller.ts";
import { WinsockError } from "../../ffi/winsock_error.ts";
import { SOCK, WSA_ERRORS } from "../../structs/constants.ts";
import {
  ANSWER_SIZE,
  BUSY,
  type Claim,
  CLAIM_SIZE,
  claimError,
  decodeClaim,
  GIVEN,
  prepareAddresses,
  type RendezvousAddress,
  SECRET_SIZE,
} from "./claims.ts";

/** The most connections accepted in one turn of the event loop. */
const MAX_IN_TURN = 8;
/** The number of connections in vain after which an address is not used for further duplicates. */
const MAX_IN_VAIN = 8;
/** The pause after accepting so many connections at such addresses, which all of them share. */
const CROWDED_PAUSE_MS = 2;
/** The most connections of one process whose claim has not arrived, or has not been answered. */
const MAX_CONNECTIONS = 64;
/** The time limit for such a connection. It may be shorter for a connection that uses a descriptor of the reserve. */
const CLAIM_TIMEOUT_MS = 2_000;
const SHORT_TIMEOUT_MS = 100;
/** The most connections that wait to be closed. While there are more, no connections are accepted. */
const MAX_CLOSING = 64;
/** One for the connection, one for the reference to its process. */
const RESERVE = 2;
/** The pause after accepting failed, and before a descriptor that found no room is sent again. */
const PAUSE_MS = 20;
const RESEND_DELAY_MS = 2;
/** How long a descriptor in flight is kept, on systems that need that, and the longest pause between checks. */
const KEPT_MS = 30_000;
const MAX_KEPT_PAUSE_MS = 50;
/**
 * The interval for disconnecting peers that connect while no duplicate is waiting, and the delay before that begins.
 */
const IDLE_MS = 250;
const REST_MS = 1_000;

const MSG_PEEK = 2;

/** A process with waiting duplicates. */
interface Target {
  readonly process: ProcessReference;
  /** The number of duplicates that wait for it. */
  duplicates: number;
  /** The number of its connections. */
  connections: number;
}

interface WaitingDuplicate {
  readonly descriptor: bigint;
  readonly secret: Uint8Array;
  readonly target: Target;
  readonly entrance: Entrance;
  readonly expiry: ReturnType<typeof setTimeout>;
}

/** A duplicate that waits to be claimed: where, and by what. */
interface Offered {
  /** The address of the rendezvous. */
  readonly rendezvous: string;
  readonly claim: Claim;
}

/** Keeps duplicated descriptors. Each is given once, to the process that it was made for, before it expires. */
export class Rendezvous {
  readonly #newAddress: () => RendezvousAddress;
  readonly #timeToLive: number;
  readonly #waiting = new Map<number, WaitingDuplicate>();
  /** The targets by process id, without those whose id now belongs to another process. */
  readonly #targets = new Map<number, Target>();
  readonly #reserve: Reserve;
  readonly #closing = new CloseQueue(1, MAX_CLOSING);
  readonly #answer = new NativeMessage(1, ANSWER_SIZE);
  /** The entrance for further duplicates. */
  #entrance: Entrance;
  /** All entrances, by address: this one, and former ones at which duplicates wait. */
  readonly #entrances = new Map<string, Entrance>();
  /** The time until which nothing is accepted at crowded entrances, in the time of `performance.now()`. */
  #pausedUntil = 0;
  #ended = false;

  /**
   * Opens the rendezvous. It does not keep the process running.
   *
   * @param timeToLive How long a duplicate waits, in milliseconds.
   * @param user The user whose processes may connect, if this process is root and the user is known.
   * @throws {WinsockError} If the system refuses.
   */
  constructor(timeToLive: number, user: number | undefined) {
    this.#timeToLive = timeToLive;
    unixPoller().prepare();
    this.#newAddress = prepareAddresses(user);
    this.#entrance = this.#open();
    this.#reserve = new Reserve();
    // The process may continue: `deno run --watch` restarts the program in it.
    addEventListener("unload", () => this.#end());
  }

  /** Returns whether this rendezvous has an address. */
  has(address: string): boolean {
    return this.#entrances.has(address);
  }

  #open(): Entrance {
    const entrance = new Entrance(this.#newAddress());
    this.#entrances.set(entrance.address, entrance);
    this.#serve(entrance);
    return entrance;
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const number of [...this.#waiting.keys()]) this.#close(number);
    this.#reserve.give();
    for (const entrance of this.#entrances.values()) entrance.closeNow();
  }

  /**
   * Duplicates a socket for one process.
   *
   * @returns The claim for the duplicate, and the address for it.
   * @throws {WinsockError} WSAENOTSOCK if the socket is not open, WSAEINVAL if the process does not exist, WSAEMFILE if
   * there is no room.
   */
  duplicate(s: bigint, processId: number): Offered {
    const operation = `duplicate socket ${s} for process ${processId}`;
    const target = this.#target(processId, operation);
    try {
      const descriptor = duplicateFrom(s, 0, operation);
      if (this.#entrance.crowded) this.#leave(this.#entrance);
      const entrance = this.#entrance;
      const claim = { number: this.#newNumber(), secret: crypto.getRandomValues(new Uint8Array(SECRET_SIZE)) };
      const expiry = setTimeout(() => this.#close(claim.number), this.#timeToLive);
      Deno.unrefTimer(expiry);
      this.#waiting.set(claim.number, { descriptor, secret: claim.secret, target, entrance, expiry });
      target.duplicates++;
      entrance.add();
      return { rendezvous: entrance.address, claim };
    } finally {
      this.#release(target);
    }
  }

  /** Opens another entrance for further duplicates. */
  #leave(former: Entrance): void {
    try {
      this.#entrance = this.#open();
    } catch {
      // There is no room for another one at the moment.
      return;
    }
    this.#closeUnused(former);
  }

  /** Closes an entrance at which nothing waits and nothing will. */
  #closeUnused(entrance: Entrance): void {
    if (entrance === this.#entrance || entrance.duplicates > 0) return;
    this.#entrances.delete(entrance.address);
    // What waits in the backlog may carry descriptors that linger.
    entrance.close((fd) => entrance.refusesDescriptors ? void libc().close(fd) : this.#closing.close(fd));
  }

  /** Closes a duplicate that was not claimed. Does nothing after that, or after a claim. */
  withdraw(claim: Claim): void {
    if (this.#find(claim) !== undefined) this.#close(claim.number);
  }

  /**
   * Claims a duplicate that was made for this process itself.
   *
   * @throws {WinsockError} WSAEINVAL if it is for another process, was claimed before, or has expired.
   */
  take(claim: Claim): bigint {
    const waiting = this.#find(claim);
    if (waiting?.target.process.pid !== Deno.pid) throw claimError(WSA_ERRORS.WSAEINVAL);
    return this.#remove(claim.number).descriptor;
  }

  #newNumber(): number {
    for (;;) {
      const [number] = crypto.getRandomValues(new Uint32Array(1));
      if (!this.#waiting.has(number!)) return number!;
    }
  }

  #target(processId: number, operation: string): Target {
    const known = this.#targets.get(processId);
    if (known?.process.alive === true) return known;
    const target = { process: referToProcess(processId, operation), duplicates: 0, connections: 0 };
    this.#targets.set(processId, target);
    return target;
  }

  /** Forgets a process without waiting duplicates. */
  #release(target: Target): void {
    if (target.duplicates > 0) return;
    const { process } = target;
    if (this.#targets.get(process.pid) === target) this.#targets.delete(process.pid);
    process[Symbol.dispose]();
  }

  #find({ number, secret }: Claim): WaitingDuplicate | undefined {
    const waiting = this.#waiting.get(number);
    return waiting !== undefined && areEqual(waiting.secret, secret) ? waiting : undefined;
  }

  #remove(number: number): WaitingDuplicate {
    const waiting = this.#waiting.get(number)!;
    this.#waiting.delete(number);
    clearTimeout(waiting.expiry);
    waiting.target.duplicates--;
    this.#release(waiting.target);
    const { entrance } = waiting;
    entrance.remove();
    this.#closeUnused(entrance);
    return waiting;
  }

  #close(number: number): void {
    libc().close(this.#remove(number).descriptor);
  }

  /** Accepts connections at an entrance until it is closed, after any error. */
  async #serve(entrance: Entrance): Promise<void> {
    while (entrance.open) {
      try {
        await entrance.somebody();
        if (entrance.crowded) await this.#pause();
        if (entrance.open) await this.#acceptSome(entrance);
      } catch {
        await unreferenced(PAUSE_MS);
      }
      if (!this.#ended) this.#reserve.restore();
    }
  }

  /** Waits for the end of the pause of the crowded entrances. */
  async #pause(): Promise<void> {
    for (let left = this.#pausedUntil - performance.now(); left > 0; left = this.#pausedUntil - performance.now()) {
      await unreferenced(left);
    }
  }

  async #acceptSome(entrance: Entrance): Promise<void> {
    for (let count = 0; count < MAX_IN_TURN; count++) {
      while (this.#closing.full) await this.#closing.next;
      if (!entrance.open) return;
      const connection = this.#reserve.spend(() => acceptNow(entrance.listener));
      if (connection === undefined) return;
      const served = this.#receive(connection, entrance);
      // Only one connection at a time may use the reserve.
      if (this.#reserve.spent) await served;
    }
    if (entrance.crowded) this.#pausedUntil = performance.now() + CROWDED_PAUSE_MS;
    // Yield before the next connection.
    else await nextTurn();
  }

  /** Serves one connection, and closes it. Does not throw. */
  async #receive(connection: bigint, entrance: Entrance): Promise<void> {
    let given = false;
    try {
      const target = this.#targets.get(peerProcessId(connection));
      if (target !== undefined) given = await this.#receiveFrom(target, connection);
    } catch {
      // The peer has gone, or the system does not identify it.
    } finally {
      if (!given) entrance.inVain++;
      if (entrance.refusesDescriptors) libc().close(connection);
      else await this.#closing.close(connection);
      if (!this.#ended) this.#reserve.restore();
    }
  }

  /** Serves a connection of a process that a duplicate waits for. Returns whether it got one. */
  async #receiveFrom(target: Target, connection: bigint): Promise<boolean> {
    let end: ClaimEnd = "unserved";
    target.connections++;
    try {
      if (target.connections > MAX_CONNECTIONS) return false;
      const { pid } = target.process;
      using peer = this.#reserve.spend(() => referToPeer(connection, pid, `serve a claim of process ${pid}`));
      const deadline = performance.now() + (this.#reserve.spent ? SHORT_TIMEOUT_MS : CLAIM_TIMEOUT_MS);
      end = await this.#serveClaim(connection, peer, deadline);
    } catch (error) {
      if (end === "unserved" && !isShortage(error)) end = "refused";
    } finally {
      target.connections--;
      if (end === "unserved") this.#answer.send(connection, BUSY, []);
    }
    return end === "given";
  }

  /** Answers a claim if it is valid. */
  async #serveClaim(connection: bigint, peer: ProcessReference, deadline: number): Promise<ClaimEnd> {
    const bytes = await receiveClaim(connection, deadline);
    if (bytes === undefined) return "unserved";
    const claim = decodeClaim(bytes);
    if (claim === undefined) return "refused";
    // The kernel's information about the connected process is valid while that process runs. The process that the
    // duplicate is for is running too, and is therefore the only process with its id.
    const isFor = (waiting: WaitingDuplicate | undefined) =>
      waiting?.target.process.pid === peer.pid && waiting.target.process.alive && peer.alive;
    for (;;) {
      const waiting = this.#find(claim);
      if (waiting === undefined || !isFor(waiting)) return "refused";
      if (this.#answer.send(connection, GIVEN, [waiting.descriptor])) break;
      if (performance.now() > deadline) return "unserved";
      await unreferenced(RESEND_DELAY_MS);
    }
    const { descriptor } = this.#remove(claim.number);
    try {
      // The kernel may shut down a socket while only a message in flight holds it. The target closes the connection
      // when it has received the descriptor.
      if (unixSystem().collectsInFlightSockets) await closedByPeer(connection, performance.now() + KEPT_MS);
    } finally {
      // The target has the socket now. It may have closed it and set it to linger.
      closeElsewhere(descriptor);
    }
    return "given";
  }
}

/** What became of a claim. `unserved`: there was no time or no room for the answer. */
type ClaimEnd = "given" | "refused" | "unserved";

/** An address of the rendezvous, and the connections that wait there. */
class Entrance {
  readonly address: string;
  readonly listener: bigint;
  /** Whether no descriptor can arrive whose close would wait. Connections inherit this from the listener. */
  readonly refusesDescriptors: boolean;
  /** The number of duplicates that wait here. */
  duplicates = 0;
  /** The number of connections that got nothing. */
  inVain = 0;
  open = true;
  readonly #look: PollProbe;
  readonly #removeFile: () => void;
  /** While no duplicate is waiting: starts accepting again. */
  #wake: (() => void) | undefined;
  /** While a duplicate is waiting: the wait for connections. */
  #accepting: PollWaiter | undefined;
  #rest: ReturnType<typeof setTimeout> | undefined;

  constructor({ name, fd, remove }: RendezvousAddress) {
    this.address = name;
    this.listener = fd;
    this.#removeFile = remove;
    this.refusesDescriptors = refuseDescriptors(fd);
    this.#look = new PollProbe(fd, POLLIN);
  }

  /** Whether so many connections got nothing that further duplicates should have another entrance. */
  get crowded(): boolean {
    return this.inVain >= MAX_IN_VAIN;
  }

  /** Notes that one more duplicate waits here. */
  add(): void {
    this.duplicates++;
    this.#wake?.();
  }

  /** Notes that a duplicate does not wait here any more. */
  remove(): void {
    if (--this.duplicates === 0) this.#rest ??= this.#restLater();
  }

  #restLater(): ReturnType<typeof setTimeout> {
    const timer = setTimeout(() => {
      this.#rest = undefined;
      if (this.duplicates === 0 && this.#accepting !== undefined) unixPoller().cancel(this.#accepting);
    }, REST_MS);
    Deno.unrefTimer(timer);
    return timer;
  }

  /**
   * Waits for a connection; while no duplicate is waiting, for a while. Connections are then not checked in every turn
   * of the event loop, because there is nothing to claim.
   */
  async somebody(): Promise<void> {
    if (this.#look.ready()) return;
    if (this.duplicates === 0) return await this.#idle();
    this.#accepting = unixPoller().wait(this.listener, "read", { referenced: false, outlives: true });
    try {
      await this.#accepting.over;
    } finally {
      this.#accepting = undefined;
    }
  }

  async #idle(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, IDLE_MS);
    Deno.unrefTimer(timer);
    this.#wake = resolve;
    await promise;
    this.#wake = undefined;
    clearTimeout(timer);
  }

  /** Closes the entrance when its listener is not waited for any more. */
  async close(close: (listener: bigint) => void): Promise<void> {
    this.open = false;
    this.#removeFile();
    clearTimeout(this.#rest);
    this.#wake?.();
    try {
      if (this.#accepting !== undefined) await unixPoller().cancel(this.#accepting);
    } finally {
      close(this.listener);
    }
  }

  /** Closes the entrance at the end of the program. */
  closeNow(): void {
    if (!this.open) return;
    this.open = false;
    libc().close(this.listener);
  }
}

/**
 * Peeks at the data of a connection until it has the size of a claim, or the connection ends. Returns `undefined` if no
 * data arrives in time.
 */
async function receiveClaim(connection: bigint, deadline: number): Promise<Uint8Array | undefined> {
  const { MSG_DONTWAIT } = unixSystem();
  const bytes = new Uint8Array(CLAIM_SIZE + 1);
  for (;;) {
    const length = libc().recv(connection, bytes, BigInt(bytes.byteLength), MSG_PEEK | MSG_DONTWAIT);
    const code = length === -1n ? errno() : 0;
    if (code === 0) return bytes.subarray(0, Number(length));
    if (!isErrno(code, "EAGAIN", "EINTR")) throw unixError(code, "look at a claim", "recv");
    const left = deadline - performance.now();
    if (left <= 0) return undefined;
    await readableWithin(connection, left, false);
  }
}

/** Waits until the peer has closed its end. A read would not show that, because the claim is left unread. */
async function closedByPeer(connection: bigint, deadline: number): Promise<void> {
  const hangUp = new PollProbe(connection, 0);
  for (let pause = 1; !hangUp.ready() && performance.now() < deadline; pause = Math.min(pause * 2, MAX_KEPT_PAUSE_MS)) {
    await unreferenced(pause);
  }
}

/** Descriptors kept only to be closed when a descriptor is needed. */
class Reserve {
  readonly #held: bigint[] = [];

  constructor() {
    this.restore();
  }

  /** Whether one was closed and has not been replaced. */
  get spent(): boolean {
    return this.#held.length < RESERVE;
  }

  /** Makes a descriptor. If there is no room, closes one of the reserve first. */
  spend<T>(make: () => T): T {
    try {
      return make();
    } catch (error) {
      const held = isShortage(error) ? this.#held.pop() : undefined;
      if (held === undefined) throw error;
      libc().close(held);
      return make();
    }
  }

  /** Closes all descriptors of the reserve. */
  give(): void {
    for (let held = this.#held.pop(); held !== undefined; held = this.#held.pop()) libc().close(held);
  }

  /** Replaces the closed descriptors, as far as there is room. */
  restore(): void {
    try {
      while (this.spent) this.#held.push(newSocket(AF_UNIX, SOCK.SOCK_STREAM));
    } catch {
      // There is no room at the moment.
    }
  }
}

function isShortage(error: unknown): boolean {
  const codes: readonly number[] = [WSA_ERRORS.WSAEMFILE, WSA_ERRORS.WSAENOBUFS];
  return error instanceof WinsockError && codes.includes(error.code);
}

/** Compares in constant time, so that the duration does not show where the first difference is. */
function areEqual(a: Uint8Array, b: Uint8Array): boolean {
  let difference = a.byteLength ^ b.byteLength;
  for (let index = 0; index < a.byteLength; index++) difference |= a[index]! ^ b[index]!;
  return difference === 0;
}
