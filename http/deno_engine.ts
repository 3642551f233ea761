/**
 * The engine that serves with the server of `Deno.serve`.
 *
 * @module
 */
import type { SocketAddr } from "../ffi/socket_address.ts";
import { canAdoptResource } from "../sockets/conn_io.ts";
import { isSuspect } from "../sockets/descriptor.ts";
import { ARRIVAL_MS, FAREWELL_MS, type HttpConnection, type HttpEngine } from "./connection_server.ts";
import { DenoConnection, type DenoContext } from "./deno_connection.ts";
import { canServeResource } from "./deno_internals.ts";
import { NodeEngine } from "./node_engine.ts";
import type { HttpHandler, HttpSettings } from "./options.ts";
import { WebSockets } from "./web_sockets.ts";

/** How often a connection is checked within each of its time limits. */
const CHECKS = 4;

/** Returns whether the server of this Deno can serve connections that it did not accept. */
function canServe(): boolean {
  return canAdoptResource() && canServeResource();
}

/**
 * Returns whether `"auto"` chooses this engine. Before 2.9.6, Deno loses bodies and connections that `node:http` keeps.
 */
export function shouldServe(): boolean {
  return canServe() && Deno.version.deno.localeCompare("2.9.6", "en", { numeric: true }) >= 0;
}

/** Serves connections with the server of `Deno.serve`, and those that it cannot serve with `node:http`. */
export class DenoEngine implements HttpEngine {
  readonly #context: DenoContext;
  readonly #changed: () => void;
  readonly #others: NodeEngine;
  /** Each open connection, at its `place`. A `Set` would slow down the collection of garbage as a `Map` does: see `DescriptorMap`. */
  readonly #open: DenoConnection[] = [];
  #timer: ReturnType<typeof setInterval>;
  #draining = false;
  #referenced = true;
  readonly #closed = (connection: DenoConnection): void => {
    const last = this.#open.pop()!;
    if (last !== connection) this.#open[last.place = connection.place] = last;
    this.#changed();
  };

  /**
   * @param changed Called when a connection has closed.
   * @throws {Deno.errors.NotSupported} If this Deno does not have a server for connections that it did not accept.
   */
  constructor(handler: HttpHandler<SocketAddr>, settings: HttpSettings, changed: () => void) {
    if (!canServe()) {
      throw new Deno.errors.NotSupported(`Cannot serve: Deno ${Deno.version.deno} only serves its own connections`);
    }
    this.#context = { handler, settings, webSockets: new WebSockets(settings) };
    this.#changed = changed;
    this.#others = new NodeEngine(handler, settings, changed);
    const { headersTimeout, keepAliveTimeout } = settings;
    this.#timer = this.#checkEvery(Math.min(headersTimeout, keepAliveTimeout) / CHECKS);
  }

  get connectionCount(): number {
    return this.#open.length + this.#others.connectionCount;
  }

  serve(connection: HttpConnection<SocketAddr>): void {
    const { socket } = connection;
    const { initialBytes, localAddr } = socket;
    const adoptable = localAddr.transport === "tcp" && initialBytes.length === 0 && !isSuspect(socket);
    if (!adoptable) return this.#others.serve(connection);
    const open = new DenoConnection(this.#context, connection as HttpConnection, localAddr, this.#closed);
    open.place = this.#open.push(open) - 1;
    if (!this.#referenced) open.setReferenced(false);
    if (this.#draining) open.drain();
  }

  drain(): void {
    this.#draining = true;
    clearInterval(this.#timer);
    this.#timer = this.#checkEvery(FAREWELL_MS / CHECKS);
    for (const connection of this.#open) connection.drain();
    setTimeout(() => this.#check(), ARRIVAL_MS);
    this.#context.webSockets.goAway();
    this.#others.drain();
  }

  setReferenced(referenced: boolean): void {
    this.#referenced = referenced;
    for (const connection of this.#open) connection.setReferenced(referenced);
    this.#others.setReferenced(referenced);
  }

  end(): void {
    for (const connection of [...this.#open]) connection.end();
    this.#others.end();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#others.stop();
  }

  #checkEvery(interval: number): ReturnType<typeof setInterval> {
    const timer = setInterval(() => this.#check(), Math.max(1, interval));
    Deno.unrefTimer(timer);
    return timer;
  }

  #check(): void {
    const now = performance.now();
    for (const connection of [...this.#open]) connection.check(now);
  }
}
