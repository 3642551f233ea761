/**
 * Serving by the server of `Deno.serve`.
 *
 * @module
 */
import type { SocketAddr } from "../ffi/socket_address.ts";
import { canAdoptResource } from "../sockets/conn_io.ts";
import { FAREWELL_MS, type HttpConnection, type HttpEngine } from "./connection_server.ts";
import { DenoConnection, type DenoContext } from "./deno_connection.ts";
import { canServeResource } from "./deno_internals.ts";
import { NodeEngine } from "./node_engine.ts";
import type { HttpHandler, HttpSettings } from "./options.ts";
import { WebSockets } from "./web_sockets.ts";

/** How often in the time a client has it is looked at. */
const CHECKS = 4;

/** Whether this Deno's own server can serve connections that it has not accepted. */
function canServe(): boolean {
  return canAdoptResource() && canServeResource();
}

/** Whether it should be chosen, if nobody says so: before 2.9.6 it loses bodies and connections that this one keeps. */
export function shouldServe(): boolean {
  return canServe() && Deno.version.deno.localeCompare("2.9.6", "en", { numeric: true }) >= 0;
}

/** Gives each connection to a server of Deno's own, and to `node:http` those that such a one cannot take. */
export class DenoEngine implements HttpEngine {
  readonly #context: DenoContext;
  readonly #changed: () => void;
  readonly #others: NodeEngine;
  readonly #open = new Set<DenoConnection>();
  #timer: ReturnType<typeof setInterval>;
  #draining = false;
  #referenced = true;

  /**
   * @param changed Told when a connection has closed.
   * @throws {Deno.errors.NotSupported} If this Deno has no such server for connections of others.
   */
  constructor(handler: HttpHandler<SocketAddr>, settings: HttpSettings, changed: () => void) {
    if (!canServe()) {
      throw new Deno.errors.NotSupported(`Deno ${Deno.version.deno} serves HTTP on no connections but its own`);
    }
    this.#context = { handler, settings, webSockets: new WebSockets(settings) };
    this.#changed = changed;
    this.#others = new NodeEngine(handler, settings, changed);
    const { headersTimeout, keepAliveTimeout } = settings;
    this.#timer = this.#checkEvery(Math.min(headersTimeout, keepAliveTimeout) / CHECKS);
  }

  get connectionCount(): number {
    return this.#open.size + this.#others.connectionCount;
  }

  serve(connection: HttpConnection<SocketAddr>): void {
    const { initialBytes, localAddr } = connection.socket;
    if (localAddr.transport !== "tcp" || initialBytes.length > 0) return this.#others.serve(connection);
    const open = new DenoConnection(this.#context, connection as HttpConnection, localAddr);
    this.#open.add(open);
    if (!this.#referenced) open.setReferenced(false);
    if (this.#draining) open.drain();
    open.closed.then(() => {
      this.#open.delete(open);
      this.#changed();
    });
  }

  drain(): void {
    this.#draining = true;
    clearInterval(this.#timer);
    this.#timer = this.#checkEvery(FAREWELL_MS / CHECKS);
    for (const connection of this.#open) connection.drain();
    this.#context.webSockets.goAway();
    this.#others.drain();
  }

  setReferenced(referenced: boolean): void {
    this.#referenced = referenced;
    for (const connection of this.#open) connection.setReferenced(referenced);
    this.#others.setReferenced(referenced);
  }

  end(): void {
    for (const connection of this.#open) connection.end();
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
    for (const connection of this.#open) connection.check(now);
  }
}
