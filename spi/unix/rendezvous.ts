/**
 * The source's side of the unix provider: the rendezvous, where target processes claim their duplicates.
 *
 * Every process of one user can connect, and in some cases all processes on the machine. A peer must therefore not be
 * able to cause much work, or to block this thread:
 *
 * - The peer is identified before anything is read. It is disconnected if there is no waiting duplicate for it.
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
import { nextTurn } from "../../internal/runtime.ts";
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
  openRendezvous,
  SECRET_SIZE,
} from "./claims.ts";

/** The most connections accepted in one turn of the event loop. */
const MAX_IN_TURN = 8;
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
  readonly expiry: ReturnType<typeof setTimeout>;
}

/** Keeps duplicated descriptors. Each is given once, to the process that it was made for, before it expires. */
export class Rendezvous {
  readonly name: string;
  readonly #listener: bigint;
  /** Whether no descriptor can arrive whose close would wait. Connections inherit this from the listener. */
  readonly #refusesDescriptors: boolean;
  readonly #look: PollProbe;
  readonly #timeToLive: number;
  readonly #waiting = new Map<number, WaitingDuplicate>();
  /** The targets by process id, without those whose id now belongs to another process. */
  readonly #targets = new Map<number, Target>();
  readonly #reserve: Reserve;
  readonly #closing = new CloseQueue(1, MAX_CLOSING);
  readonly #answer = new NativeMessage(1, ANSWER_SIZE);
  /** While no duplicate is waiting: starts accepting again. */
  #wake: (() => void) | undefined;
  /** While a duplicate is waiting: the wait for connections. */
  #accepting: PollWaiter | undefined;
  #rest: ReturnType<typeof setTimeout> | undefined;
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
    const { name, fd } = openRendezvous(user);
    this.name = name;
    this.#listener = fd;
    this.#refusesDescriptors = refuseDescriptors(fd);
    this.#look = new PollProbe(fd, POLLIN);
    this.#reserve = new Reserve();
    // The process may continue: `deno run --watch` restarts the program in it.
    addEventListener("unload", () => this.#end());
    this.#serve();
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const number of [...this.#waiting.keys()]) this.#close(number);
    this.#reserve.give();
    libc().close(this.#listener);
  }

  /**
   * Duplicates a socket for one process.
   *
   * @returns The claim for the duplicate.
   * @throws {WinsockError} WSAENOTSOCK if the socket is not open, WSAEINVAL if the process does not exist, WSAEMFILE if
   * there is no room.
   */
  duplicate(s: bigint, processId: number): Claim {
    const operation = `duplicate socket ${s} for process ${processId}`;
    const target = this.#target(processId, operation);
    try {
      const descriptor = duplicateFrom(s, 0, operation);
      const claim = { number: this.#newNumber(), secret: crypto.getRandomValues(new Uint8Array(SECRET_SIZE)) };
      const expiry = setTimeout(() => this.#close(claim.number), this.#timeToLive);
      Deno.unrefTimer(expiry);
      this.#waiting.set(claim.number, { descriptor, secret: claim.secret, target, expiry });
      target.duplicates++;
      this.#wake?.();
      return claim;
    } finally {
      this.#release(target);
    }
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
    if (this.#waiting.size === 0) this.#rest ??= this.#restLater();
    return waiting;
  }

  #close(number: number): void {
    libc().close(this.#remove(number).descriptor);
  }

  /** Accepts connections for as long as the process runs, after any error. */
  async #serve(): Promise<void> {
    while (!this.#ended) {
      try {
        await (this.#waiting.size === 0 && !this.#look.ready() ? this.#idle() : this.#somebody());
        if (!this.#ended) await this.#acceptSome();
      } catch {
        await unreferenced(PAUSE_MS);
      }
      if (!this.#ended) this.#reserve.restore();
    }
  }

  /**
   * Waits while there is no waiting duplicate. Connections are not checked in every turn of the event loop, because
   * there is nothing to claim.
   */
  async #idle(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, IDLE_MS);
    Deno.unrefTimer(timer);
    this.#wake = resolve;
    await promise;
    this.#wake = undefined;
    clearTimeout(timer);
  }

  async #somebody(): Promise<void> {
    this.#accepting = unixPoller().wait(this.#listener, "read", { referenced: false, outlives: true });
    try {
      await this.#accepting.over;
    } finally {
      this.#accepting = undefined;
    }
  }

  #restLater(): ReturnType<typeof setTimeout> {
    const timer = setTimeout(() => {
      this.#rest = undefined;
      if (this.#waiting.size === 0 && this.#accepting !== undefined) unixPoller().cancel(this.#accepting);
    }, REST_MS);
    Deno.unrefTimer(timer);
    return timer;
  }

  async #acceptSome(): Promise<void> {
    for (let count = 0; count < MAX_IN_TURN && this.#look.ready(); count++) {
      while (this.#closing.full) await this.#closing.next;
      const connection = this.#reserve.spend(() => acceptNow(this.#listener));
      if (connection === undefined) return;
      const served = this.#receive(connection);
      // Only one connection at a time may use the reserve.
      if (this.#reserve.spent) await served;
    }
    // Yield before the next connection.
    if (this.#look.ready()) await nextTurn();
  }

  /** Serves one connection, and closes it. Does not throw. */
  async #receive(connection: bigint): Promise<void> {
    try {
      const processId = peerProcessId(connection);
      const target = this.#targets.get(processId);
      if (target !== undefined) await this.#receiveFrom(target, connection);
    } catch {
      // The peer has gone, or the system does not identify it.
    } finally {
      if (this.#refusesDescriptors) libc().close(connection);
      else await this.#closing.close(connection);
      if (!this.#ended) this.#reserve.restore();
    }
  }

  async #receiveFrom(target: Target, connection: bigint): Promise<void> {
    let served = false;
    target.connections++;
    try {
      if (target.connections > MAX_CONNECTIONS) return;
      const { pid } = target.process;
      using peer = this.#reserve.spend(() => referToPeer(connection, pid, `serve a claim of process ${pid}`));
      const deadline = performance.now() + (this.#reserve.spent ? SHORT_TIMEOUT_MS : CLAIM_TIMEOUT_MS);
      served = await this.#serveClaim(connection, peer, deadline);
    } catch (error) {
      served ||= !isShortage(error);
    } finally {
      target.connections--;
      if (!served) this.#answer.send(connection, BUSY, []);
    }
  }

  /** Answers a claim if it is valid. Returns `false` if there was no time or no room for the answer. */
  async #serveClaim(connection: bigint, peer: ProcessReference, deadline: number): Promise<boolean> {
    const bytes = await receiveClaim(connection, deadline);
    if (bytes === undefined) return false;
    const claim = decodeClaim(bytes);
    if (claim === undefined) return true;
    // The kernel's information about the connected process is valid while that process runs. The process that the
    // duplicate is for is running too, and is therefore the only process with its id.
    const isFor = (waiting: WaitingDuplicate | undefined) =>
      waiting?.target.process.pid === peer.pid && waiting.target.process.alive && peer.alive;
    for (;;) {
      const waiting = this.#find(claim);
      if (waiting === undefined || !isFor(waiting)) return true;
      if (this.#answer.send(connection, GIVEN, [waiting.descriptor])) break;
      if (performance.now() > deadline) return false;
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
    return true;
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

/** Waits without keeping the process running. */
function unreferenced(milliseconds: number): Promise<void> {
  return new Promise((resolve) => Deno.unrefTimer(setTimeout(resolve, milliseconds)));
}

/** Compares in constant time, so that the duration does not show where the first difference is. */
function areEqual(a: Uint8Array, b: Uint8Array): boolean {
  let difference = a.byteLength ^ b.byteLength;
  for (let index = 0; index < a.byteLength; index++) difference |= a[index]! ^ b[index]!;
  return difference === 0;
}
