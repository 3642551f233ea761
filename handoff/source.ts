/**
 * The source's side of a hand-off.
 *
 * @module
 */
import type net from "node:net";
import { defaultProvider } from "../spi/default_provider.ts";
import { checkOpen, type SharedSocket } from "../sockets/duplicate_socket.ts";
import { atMost } from "./at_most.ts";
import { type ControlSocket, openControlSocket } from "./control_socket.ts";
import { encodeFrame, FrameDecoder, FrameType } from "./frame.ts";
import { FrameWriter } from "./frame_writer.ts";
import { HandoffError } from "./handoff_error.ts";
import { Outbox } from "./outbox.ts";
import { OutgoingHandoff } from "./outgoing_handoff.ts";
import { encodeData, encodeHello, MAX_REASON } from "./payload.ts";
import {
  checkedInitialBytes,
  checkedTimeout,
  type HandoffChild,
  type HandoffSourceOptions,
  type SendOptions,
} from "./send_options.ts";
import { describeEnd } from "./program.ts";
import { trace } from "./trace.ts";

/** Sockets on their way, whichever source sends them: none is offered twice at a time. */
const onTheirWay = new WeakSet<SharedSocket>();

/**
 * Hands sockets to a child process over its stdin; the child takes them with {@linkcode receive}. The child's stdout and
 * stderr stay free for its own output.
 *
 * The source keeps every socket until the child has claimed and accepted it. A child that rejects it, dies, or takes too
 * long leaves it open and the source's.
 *
 * At most 256 sockets, and 4 MiB of what goes along with them (or one that takes more), are on their way at a time;
 * further ones wait here. A child that does not read makes its source hold no more than twice that.
 *
 * Needs ffi access to the system's socket library, and `--allow-run` to spawn the child.
 *
 * @example Handing every connection to a worker
 * ```ts ignore
 * import { HandoffSource, LIBRARY_PATHS, listen } from "@winsock/handoff";
 *
 * const args = ["run", `--allow-ffi=${LIBRARY_PATHS.join(",")}`, "worker.ts"];
 * const child = new Deno.Command(Deno.execPath(), { args, stdin: "piped" }).spawn();
 * await using source = new HandoffSource(child);
 * using listener = listen({ port: 8080 });
 * for await (const socket of listener) {
 *   await source.send(socket);
 * }
 * ```
 */
export class HandoffSource implements AsyncDisposable {
  /** Resolves when the target can take sockets; rejects with a {@linkcode HandoffError} if it never will. */
  readonly ready: Promise<void>;
  /** Resolves when this source can send no more: it was closed, the child ended, or the channel broke. */
  readonly closed: Promise<void>;

  readonly #child: HandoffChild;
  readonly #timeout: number;
  readonly #writer: FrameWriter;
  readonly #control: net.Socket;
  readonly #outbox: Outbox;
  readonly #ready = Promise.withResolvers<void>();
  readonly #closed = Promise.withResolvers<void>();
  #lastHeard = performance.now();
  #failure: HandoffError | undefined;
  #closing: Promise<void> | undefined;
  /** Closed, and nothing is on its way: how the child ends is its own affair. */
  #finished = false;

  /**
   * Starts speaking to a child.
   *
   * @param child A child process just spawned with `stdin: "piped"`. Its stdin belongs to the source from now on.
   * @param options How.
   * @throws {TypeError} If the child's stdin is not piped, or is in use.
   * @throws {RangeError} If the timeout is not more than 0, or more than 30 000.
   * @throws {WinsockError} WSAEINVAL if the child is gone already.
   */
  constructor(child: HandoffChild, options: HandoffSourceOptions = {}) {
    this.#child = child;
    this.#timeout = checkedTimeout(options.timeout ?? 10_000);
    this.ready = this.#ready.promise;
    this.closed = this.#closed.promise;
    this.ready.catch(() => {});
    this.#writer = new FrameWriter(child.stdin);
    let control: ControlSocket;
    try {
      control = openControlSocket(child.pid);
    } catch (error) {
      this.#writer.release();
      throw error;
    }
    this.#control = control.socket;
    this.#outbox = new Outbox(child.pid, this.#writer, {
      ready: () => this.#ready.resolve(),
      released: () => callOut(options.onRelease),
      broken: (failure) => this.#fail(failure),
    });
    this.#sendHello(control.duplicate);
    child.status.then((status) =>
      this.#fail(new HandoffError("target-died", `process ${child.pid} ${describeEnd(status)}`))
    );
    const deadline = setTimeout(
      () => this.#fail(new HandoffError("expired", `process ${child.pid} was not ready after ${this.#timeout} ms`)),
      this.#timeout,
    );
    const settled = () => clearTimeout(deadline);
    this.ready.then(settled, settled);
  }

  /**
   * Why this source can send no more; `undefined` while it can, and after {@linkcode HandoffSource.close}, unless it failed
   * before all that was on its way had arrived.
   */
  get failure(): HandoffError | undefined {
    return this.#failure;
  }

  /** How many sockets are on their way, or wait to be. */
  get inFlight(): number {
    return this.#outbox.count;
  }

  /** How many sockets the target has been given and has not closed, or given up, yet. */
  get held(): number {
    return this.#outbox.held;
  }

  /** When the target was last heard of, as `performance.now()` tells time; at first, when this source began. */
  get lastHeard(): number {
    return this.#lastHeard;
  }

  /**
   * Hands a socket to the child.
   *
   * @param socket The socket. Once this resolves it is the target's, and closed here; if it rejects, it is as it was.
   * @param options What travels along.
   * @throws {HandoffError} If the target rejected it, died, or took too long; `outcome` says which.
   * @throws {WinsockError} If the socket cannot be shared: WSAENOTSOCK if it was closed or given up.
   * @throws {TypeError} If the socket is being handed off already, or `data` is no JSON.
   * @throws {RangeError} If `data` or the initial bytes are too long.
   * @throws The signal's reason, if it is aborted first.
   */
  async send(socket: SharedSocket, options: SendOptions = {}): Promise<void> {
    const data = encodeData(options.data);
    const initialBytes = checkedInitialBytes(socket, options.initialBytes);
    const { signal } = options;
    signal?.throwIfAborted();
    if (this.#closing !== undefined) throw this.#failure ?? new HandoffError("channel-broken", "the source was closed");
    checkOpen(socket);
    if (onTheirWay.has(socket)) throw new TypeError(`Socket ${socket.handle} is being handed off already`);
    onTheirWay.add(socket);
    const outgoing = new OutgoingHandoff(socket, data, initialBytes);
    const abort = () => this.#outbox.withdraw(outgoing, signal?.reason);
    signal?.addEventListener("abort", abort);
    let deadline: ReturnType<typeof setTimeout> | undefined;
    this.#outbox.add(outgoing);
    this.ready.then(() => {
      if (outgoing.state === "settled") return;
      deadline = setTimeout(() => {
        const reason = `process ${this.#child.pid} did not take it in ${this.#timeout} ms`;
        this.#outbox.withdraw(outgoing, new HandoffError("expired", reason));
      }, this.#timeout);
      this.#outbox.offerWaiting();
    }, () => {});
    try {
      await outgoing.settled;
    } finally {
      clearTimeout(deadline);
      signal?.removeEventListener("abort", abort);
      onTheirWay.delete(socket);
    }
  }

  /** Waits for what is on its way, tells the target that no more will come, and closes its stdin. The child runs on. */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  /** The same as {@linkcode HandoffSource.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    await this.ready.catch(() => {});
    await atMost(this.#timeout, this.#outbox.allSettled());
    this.#finished = this.#outbox.count === 0;
    if (this.#failure === undefined) this.#writer.write(() => encodeFrame(FrameType.END, 0)).catch(() => {});
    await this.#writer.close(this.#failure === undefined ? this.#timeout : 0);
    this.#control.destroy();
    this.#closed.resolve();
  }

  /** Sends the target its end of the control socket, and listens at this one. */
  #sendHello(control: Uint8Array): void {
    const { pid } = this.#child;
    const hello = encodeHello({ sourceProcessId: Deno.pid, targetProcessId: pid, control });
    this.#writer.write(() => encodeFrame(FrameType.HELLO, 0, ...hello)).catch((cause) => {
      this.#fail(new HandoffError("target-died", `process ${pid} does not read its stdin`, { cause }));
    });
    this.ready.catch(() => defaultProvider().withdraw(control));
    trace("hello-sent", 0, pid);
    const decoder = new FrameDecoder(MAX_REASON);
    this.#control.on("data", (chunk: Uint8Array) => this.#takeAnswers(decoder, chunk));
    this.#control.on(
      "end",
      () => {
        // At the end of a source that was closed the target closes it too.
        if (this.#closing === undefined) {
          this.#fail(new HandoffError("target-died", `process ${pid} closed its control socket`));
        }
      },
    );
    this.#control.on("error", (cause) => {
      this.#fail(new HandoffError("target-died", `process ${pid} broke its control socket`, { cause }));
    });
    this.#control.unref();
  }

  #takeAnswers(decoder: FrameDecoder, chunk: Uint8Array): void {
    this.#lastHeard = performance.now();
    try {
      for (const frame of decoder.push(chunk)) {
        if (this.#failure === undefined) this.#outbox.takeAnswer(frame);
      }
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      const failure = `process ${this.#child.pid} sent no valid answer: ${reason}`;
      this.#fail(new HandoffError("channel-broken", failure, { cause: error }));
    }
  }

  /** Ends the channel: what is not committed goes back. */
  #fail(failure: HandoffError): void {
    if (this.#failure !== undefined || this.#finished) return;
    this.#failure = failure;
    this.#ready.reject(failure);
    this.#outbox.giveBackAll(failure);
    this.#control.destroy();
    this.#closed.resolve();
    this.close();
  }
}

/** Calls the program. What it throws is its own mistake, and none of the target's. */
function callOut(callback: (() => void) | undefined): void {
  try {
    callback?.();
  } catch (error) {
    reportError(error);
  }
}
