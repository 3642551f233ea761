/**
 * The body of a request that `node:http` has parsed.
 *
 * Node's own `Readable.toWeb` throws out of the event loop when a body is cancelled while data comes, and no program can
 * catch that. So the stream is made here, and nothing but this module reads the body.
 *
 * @module
 */
import type { IncomingMessage } from "node:http";
import type { Socket as NodeSocket } from "node:net";
import type { Outgoing } from "./outgoing.ts";

/** How long a client may go on sending what is thrown away, in milliseconds, and how much, in bytes. */
const LONGEST = 30_000;
const MOST = 64 * 1024 ** 2;
/** How much is kept for a program that reads on after the response, so that the connection need not wait for it. */
const READ_AHEAD = 256 * 1024;
/** How long such a program may leave that unread, in milliseconds. */
const READ_WITHIN = 5_000;

/** A request whose body is longer than the server allows: the client's fault, which is answered 413. */
export class BodyTooLargeError extends RangeError {
  override readonly name = "RangeError";

  /** @param limit The `maxRequestBodySize`. */
  constructor(limit: number) {
    super(`Cannot read the body of the request: it is longer than the maxRequestBodySize of ${limit} bytes`);
  }
}

/** Reads a request's body for the handler, and throws away what the handler leaves of it. */
export class RequestBody {
  readonly #incoming: IncomingMessage;
  readonly #outgoing: Outgoing;
  readonly #connection: NodeSocket;
  readonly #limit: number;
  #stream: ReadableStream | undefined;
  #controller: ReadableByteStreamController | undefined;
  /** Resolves the program's read, which waits. */
  #wanted: (() => void) | undefined;
  #count = 0;
  /** Whether the program has begun to read; whether it gets nothing more; whether what comes is thrown away. */
  #begun = false;
  #over = false;
  #discarding = false;
  /** Whether the response is sent: from then on what comes is read before it is asked for. */
  #answered = false;
  /** Whether the client has ended its side before all has come. */
  #broken = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param limit How long it may be, in bytes. */
  constructor(incoming: IncomingMessage, outgoing: Outgoing, limit: number) {
    this.#incoming = incoming;
    this.#outgoing = outgoing;
    this.#connection = incoming.socket as NodeSocket;
    this.#limit = limit;
    if (this.expected) outgoing.once("prefinish", () => this.#finish());
  }

  /** Whether there may be one. */
  get expected(): boolean {
    return this.#incoming.headers["transfer-encoding"] !== undefined || this.#announced > 0;
  }

  /** Whether the program reads it, and more of it may come. */
  get isRead(): boolean {
    return this.#begun && !this.#over;
  }

  /** Whether the client says itself that it is longer than is allowed. */
  get announcedTooLarge(): boolean {
    return this.#announced > this.#limit;
  }

  /**
   * Whether so much more may come that its connection cannot go on: of what nobody reads, Node takes in no more than its
   * `readableHighWaterMark`.
   */
  get mayStall(): boolean {
    const { complete, headers, readableHighWaterMark, readableLength } = this.#incoming;
    if (complete) return false;
    if (headers["transfer-encoding"] !== undefined) return true;
    return this.#announced - this.#count - readableLength >= readableHighWaterMark;
  }

  get #announced(): number {
    return Number(this.#incoming.headers["content-length"] ?? 0);
  }

  /** Makes the stream the program reads. Nothing is read before the program does. */
  stream(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#stream = new ReadableStream({
      type: "bytes",
      start: (controller) => void (this.#controller = controller),
      pull: () => this.#pull(),
      cancel: () => this.#cancel(),
    }, { highWaterMark: 0 });
  }

  /** The client has ended its side: nothing comes that is not there. */
  breakOff(): void {
    if (this.#incoming.complete || !this.expected) return;
    this.#broken = true;
    if (this.#controller !== undefined) this.#end();
  }

  #pull(): Promise<void> | void {
    if (this.#over) return;
    const incoming = this.#incoming;
    if (this.#discarding) return this.#fail(new TypeError("The body was not read before the response was sent"));
    if (incoming.readableEnded || incoming.destroyed || this.#broken) return this.#end();
    if (!this.#begun) this.#begin();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wanted = resolve;
    incoming.resume();
    if (this.#answered) this.#awaitClient();
    return promise;
  }

  #begin(): void {
    this.#begun = true;
    this.#outgoing.tellToGoOn();
    const incoming = this.#incoming;
    // Node tells of errors only those that listen, and ends the process over what nobody takes.
    incoming.on("error", () => {});
    incoming.on("data", (bytes: Uint8Array) => this.#take(bytes));
    incoming.once("end", () => this.#end());
    incoming.once("close", () => this.#end());
  }

  #take(bytes: Uint8Array): void {
    this.#count += bytes.length;
    if (this.#over) return;
    if (this.#count > this.#limit) {
      this.#fail(new BodyTooLargeError(this.#limit));
      return this.#discard();
    }
    // The stream takes the whole buffer of what it is given, and this one belongs to Node.
    this.#controller!.enqueue(new Uint8Array(bytes));
    this.#settle();
    if (!this.#answered) this.#incoming.pause();
    else if (this.#waiting >= READ_AHEAD) this.#awaitProgram();
    else this.#awaitClient();
  }

  /** Nothing more comes: all has, or the connection has closed before that. */
  #end(): void {
    clearTimeout(this.#timer);
    if (this.#over) return;
    const { readableEnded, errored } = this.#incoming;
    if (!readableEnded) return this.#fail(errored ?? brokenOff());
    this.#over = true;
    this.#controller!.close();
    // A reader that brought its own buffer gets it back.
    this.#controller!.byobRequest?.respond(0);
    this.#settle();
  }

  #fail(error: Error): void {
    this.#over = true;
    this.#controller!.error(error);
    this.#settle();
  }

  #cancel(): void {
    this.#over = true;
    this.#settle();
    // A client that waits to be told to send it need not; one that does so all the same is heard after the response.
    if (!this.#outgoing.expectsContinue) this.#discard();
  }

  #settle(): void {
    this.#wanted?.();
    this.#wanted = undefined;
  }

  /** The response is sent: reads what is left, for the program if it has begun to read, or for nobody. A reader that has it may not have asked yet. */
  #finish(): void {
    const incoming = this.#incoming;
    if (incoming.readableEnded || incoming.destroyed || this.#broken) return;
    this.#answered = true;
    if (this.#over || !this.#begun && !this.#stream?.locked) this.#discard();
    else {
      if (!this.#begun) this.#begin();
      incoming.resume();
      this.#awaitClient();
    }
    if (this.mayStall) this.#linger();
  }

  /** Closes the connection after the response, but not before the client has sent the rest. */
  #linger(): void {
    const connection = this.#connection;
    const destroySoon = connection.destroySoon;
    // Under Wine what is read with pauses does not all come when this side has ended, and of TLS nothing does anywhere.
    const mayEnd = !("encrypted" in connection);
    connection.destroySoon = () => void (mayEnd && this.#discarding && connection.end());
    this.#outgoing.once("close", () => connection.destroySoon());
    const close = () => destroySoon.call(connection);
    this.#incoming.once("end", close);
    connection.once("end", close);
  }

  /** Throws away what comes, within bounds: a client that is cut off while it sends may never see the response. */
  #discard(): void {
    if (this.#discarding) return;
    this.#discarding = true;
    const incoming = this.#incoming;
    if (incoming.readableEnded || incoming.destroyed) return;
    let count = 0;
    incoming.on("data", (bytes: Uint8Array) => {
      count += bytes.length;
      if (count > MOST) this.#connection.destroy();
    });
    this.#set(LONGEST, () => this.#connection.destroy());
    const clear = () => clearTimeout(this.#timer);
    incoming.once("end", clear);
    incoming.once("close", clear);
    incoming.resume();
  }

  /** How much the program has not read of what has come. */
  get #waiting(): number {
    return -this.#controller!.desiredSize!;
  }

  /** Lets the client go on sending, and ends its connection when it does not. */
  #awaitClient(): void {
    this.#set(LONGEST, () => this.#connection.destroy());
  }

  /** Lets the program go on reading, and throws away what it leaves when it does not. */
  #awaitProgram(): void {
    this.#incoming.pause();
    const before = this.#waiting;
    this.#set(READ_WITHIN, () => {
      if (this.#waiting < before) return this.#awaitProgram();
      this.#fail(new Deno.errors.TimedOut("The body was not read any more after the response was sent"));
      this.#discard();
    });
  }

  #set(time: number, act: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(act, time);
    Deno.unrefTimer(this.#timer);
  }
}

function brokenOff(): Error {
  return new Deno.errors.ConnectionAborted("The connection ended before all of the body had come");
}
