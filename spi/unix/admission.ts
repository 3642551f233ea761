/**
 * Who may stay connected to a rendezvous: everybody on the machine can reach it, and each connection costs the source a
 * descriptor.
 *
 * @module
 */
import type net from "node:net";

/** Connections a process may have that something was duplicated for; it needs one. */
const MOST_EACH = 8;
/** Connections that all others may have together, and for how long. */
const MOST_STRANGERS = 32;
const STRANGER_MS = 1_000;

/** Counts connections, and ends those that are too many or lead to nothing. */
export class Admission {
  readonly #connections = new Map<number, number>();
  #strangers = 0;

  /**
   * Lets a connection stay, or ends it.
   *
   * @param processId Who connected.
   * @param isExpected Whether a duplicate waits for it, or was claimed by it.
   */
  admit(connection: net.Socket, processId: number, isExpected: () => boolean): void {
    const count = (this.#connections.get(processId) ?? 0) + 1;
    const stranger = !isExpected();
    if (stranger ? this.#strangers >= MOST_STRANGERS : count > MOST_EACH) return void connection.destroy();
    this.#connections.set(processId, count);
    if (stranger) this.#strangers++;
    const deadline = stranger ? setTimeout(() => isExpected() || connection.destroy(), STRANGER_MS) : undefined;
    if (deadline !== undefined) Deno.unrefTimer(deadline);
    connection.once("close", () => {
      clearTimeout(deadline);
      if (stranger) this.#strangers--;
      const left = this.#connections.get(processId)! - 1;
      if (left === 0) this.#connections.delete(processId);
      else this.#connections.set(processId, left);
    });
  }
}
