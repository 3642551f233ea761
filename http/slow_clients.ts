/**
 * Clients that do not take what is sent to them.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Socket as NodeSocket } from "node:net";
import { setImmediate } from "node:timers";
import type { NodeResponse } from "./response.ts";

/** The most bytes written at a time: of one write it cannot be seen how much the client has taken. */
const PIECE = 256 * 1024;
/** How often in the time a client has it is looked at. */
const CHECKS = 4;
/** What streams say of bytes; the types know only encodings of text. */
const BYTES = "buffer" as BufferEncoding;

type Done = (error?: Error | null) => void;
type Written = { chunk: string | Uint8Array; encoding: BufferEncoding };

/** Ends connections whose clients take too little of what waits for them. */
export class SlowClients {
  readonly #outputs = new Set<Output>();
  readonly #timer: ReturnType<typeof setInterval> | undefined;

  /**
   * @param sendTimeout The time in which a client must take something, in milliseconds; 0 for any time.
   * @param minSendRate How much of it, in bytes a second.
   */
  constructor(sendTimeout: number, minSendRate: number) {
    if (sendTimeout === 0) return;
    const least = Math.max(1, minSendRate * sendTimeout / 1_000);
    const check = () => {
      for (const output of this.#outputs) output.check(least);
    };
    // What was written a moment ago has until then to be taken, so that what still waits does so for the client.
    const timer = setInterval(() => setImmediate(check), Math.max(1, sendTimeout / CHECKS));
    Deno.unrefTimer(timer);
    this.#timer = timer;
  }

  /**
   * Looks after a connection until it closes.
   *
   * @param stream What is written to: the connection, or TLS on it.
   * @param connection What is reset when the client is too slow.
   * @param response Tells the response it had last, if any.
   */
  watch(stream: NodeSocket, connection: NodeSocket, response: () => NodeResponse | undefined): void {
    if (this.#timer === undefined) return;
    const output = new Output(stream, connection, response);
    this.#outputs.add(output);
    connection.once("close", () => this.#outputs.delete(output));
  }

  /** Looks after none any more. */
  stop(): void {
    clearInterval(this.#timer);
  }
}

/** What waits for one client, and what it takes. */
class Output {
  readonly #stream: NodeSocket;
  readonly #connection: NodeSocket;
  readonly #response: () => NodeResponse | undefined;
  /** What waited at the last look; and since the client's time began, how often it did, and how many bytes it took. */
  #waiting: NodeSocket | NodeResponse | undefined;
  #looks = 0;
  #taken = 0;

  constructor(stream: NodeSocket, connection: NodeSocket, response: () => NodeResponse | undefined) {
    this.#stream = stream;
    this.#connection = connection;
    this.#response = response;
    const write = stream._write.bind(stream);
    const writev = stream._writev!.bind(stream);
    stream._write = (chunk, encoding, done) => {
      if (chunk.length > PIECE) this.#writePieces([{ chunk, encoding }], write, done);
      else write(chunk, encoding, this.#counting(chunk.length, done));
    };
    stream._writev = (chunks, done) => {
      const length = chunks.reduce((sum, { chunk }) => sum + chunk.length, 0);
      if (length > PIECE) this.#writePieces(chunks, write, done);
      else writev(chunks, this.#counting(length, done));
    };
  }

  /** Resets the connection if the client has had its time, and has taken less than that. */
  check(least: number): void {
    const waiting = this.#look();
    if (waiting === this.#waiting && (waiting === undefined || ++this.#looks < CHECKS)) return;
    // Without the reset the system would go on offering what it has taken already.
    if (waiting === this.#waiting && this.#taken < least) this.#connection.resetAndDestroy();
    this.#waiting = waiting;
    this.#looks = 0;
    this.#taken = 0;
  }

  /** What waits: the stream, or a small response, which Deno writes past it. */
  #look(): NodeSocket | NodeResponse | undefined {
    if (this.#stream.writableLength > 0) return this.#stream;
    const response = this.#response();
    return response?.writableEnded && !response.sent ? response : undefined;
  }

  async #writePieces(chunks: Written[], write: NodeSocket["_write"], done: Done): Promise<void> {
    for (const piece of pieces(chunks)) {
      const error = await new Promise<Error | null | undefined>((resolve) => write(piece, BYTES, resolve));
      if (error) return done(error);
      this.#taken += piece.length;
    }
    done();
  }

  #counting(length: number, done: Done): Done {
    return (error) => {
      this.#taken += length;
      done(error);
    };
  }
}

function* pieces(chunks: Written[]): Generator<Uint8Array> {
  for (const { chunk, encoding } of chunks) {
    const bytes = typeof chunk === "string" ? Buffer.from(chunk, encoding) : chunk;
    for (let at = 0; at < bytes.length; at += PIECE) yield bytes.subarray(at, at + PIECE);
  }
}
