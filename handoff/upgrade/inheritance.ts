/**
 * What a new version gets from the one before it.
 *
 * @module
 */
import type { SocketAddr } from "../../sockets/address.ts";
import { DatagramSocket } from "../../sockets/datagram_socket.ts";
import type { SharedSocket } from "../../sockets/duplicate_socket.ts";
import { Listener } from "../../sockets/listener.ts";
import { Socket } from "../../sockets/socket.ts";
import { receive } from "../receive.ts";
import { Conversation } from "./conversation.ts";

/** The environment variable by which a process knows that it has a predecessor: its process id. */
export const PREDECESSOR_VARIABLE = "WINSOCK_HANDOFF_PREDECESSOR";

/** What travels with the first socket, the connection to speak over. */
export interface Announcement {
  readonly upgrade: 1;
  /** Names of the listeners that follow, in order. */
  readonly listeners: readonly string[];
  /** Names of the datagram sockets that follow, in order; a predecessor may know none. */
  readonly datagrams?: readonly string[];
  /** How many connections follow. */
  readonly connections: number;
}

/** An established connection that came along. */
export interface InheritedConnection {
  /** The connection. */
  readonly socket: Socket;
  /** What the predecessor said of it. */
  readonly data: unknown;
}

/** All that came. */
export interface Inheritance {
  readonly conversation: Conversation;
  readonly listeners: Map<string, Listener<SocketAddr>>;
  readonly datagrams: Map<string, DatagramSocket>;
  readonly connections: InheritedConnection[];
}

/**
 * Takes all that the predecessor hands over; less, if it dies on the way.
 *
 * @returns `undefined` if it died before it said anything.
 * @throws {TypeError} If what arrives is no inheritance. After this and any other error, all that came is closed.
 */
export async function takeInheritance(input: ReadableStream<Uint8Array> | undefined): Promise<Inheritance | undefined> {
  const received = receive({ listeners: true, datagrams: true, ...input === undefined ? {} : { input } });
  const taken: SharedSocket[] = [];
  try {
    const first = (await received.next()).value;
    if (first === undefined) return undefined;
    taken.push(first.socket);
    const announced = first.data as Announcement;
    if (announced?.upgrade !== 1 || !(first.socket instanceof Socket)) {
      throw new TypeError("What arrives on stdin is no inheritance of this version");
    }
    const listeners = new Map<string, Listener>();
    const datagrams = new Map<string, DatagramSocket>();
    const connections: InheritedConnection[] = [];
    const { datagrams: datagramNames = [] } = announced;
    const expected = announced.listeners.length + datagramNames.length + announced.connections;
    for (let count = 0; count < expected; count++) {
      const { value } = await received.next();
      if (value === undefined) break;
      const { socket, data } = value;
      taken.push(socket);
      if (socket instanceof Listener) listeners.set(announced.listeners[listeners.size]!, socket);
      else if (socket instanceof DatagramSocket) datagrams.set(datagramNames[datagrams.size]!, socket);
      else connections.push({ socket, data });
    }
    const conversation = new Conversation(first.socket.toNodeSocket());
    // What is left to come is the end of stdin; the loop must see it, and closes nothing that was taken.
    received.next().catch(() => {});
    return { conversation, listeners, datagrams, connections };
  } catch (error) {
    for (const socket of taken) socket.close();
    await received.return();
    throw error;
  }
}
