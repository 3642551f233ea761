/**
 * Closes descriptors when the program that owns them ends but its process continues: `deno run --watch` restarts a
 * program in the same process, and a Web Worker can be terminated.
 *
 * Deno closes the resources it opened itself, but not descriptors opened through FFI. Before a restart it emits
 * `unload`. A Worker that is terminated, or closes itself, runs no more code; only the system can tell that its thread
 * ends.
 *
 * @module
 */

/** Closes descriptors when the thread of this Worker ends. */
export interface ThreadEnd {
  /** Registers a descriptor to be closed when the thread ends. */
  add(s: bigint): void;
  /** Unregisters a descriptor. */
  remove(s: bigint): void;
}

/** Whether this program runs in a Web Worker. */
export const inWorker: boolean = "WorkerGlobalScope" in globalThis;

/** The callback for each key. A key is a descriptor or another object that must end with the program. */
const open = new Map<unknown, () => void>();
let threadEnd: ThreadEnd | undefined;
let listening = false;

/**
 * Registers a descriptor to be closed when the program ends.
 *
 * @param s The descriptor. This replaces an earlier registration of the same number.
 * @param close Closes the descriptor.
 * @returns A function that cancels the registration. Call it before the descriptor is closed or released.
 */
export function closeAtEnd(s: bigint, close: () => void): () => void {
  const leave = callAtUnload(s, close);
  threadEnd?.add(s);
  return () => {
    if (leave()) threadEnd?.remove(s);
  };
}

/**
 * Registers a callback for a restart of the program. It is not called when a Worker is terminated.
 *
 * @param key The object that the callback ends. This replaces an earlier callback for the same key.
 * @param end The callback.
 * @returns A function that cancels the registration and returns whether it was still in force.
 */
export function callAtUnload(key: unknown, end: () => void): () => boolean {
  if (!listening) addEventListener("unload", closeAll);
  listening = true;
  open.set(key, end);
  return () => open.get(key) === end && open.delete(key);
}

/**
 * Also closes the registered descriptors when this thread ends.
 *
 * @param chosen The implementation that detects the end of the thread.
 */
export function useThreadEnd(chosen: ThreadEnd): void {
  threadEnd = chosen;
  for (const s of open.keys()) if (typeof s === "bigint") chosen.add(s);
}

function closeAll(): void {
  for (const [key, close] of [...open]) {
    open.delete(key);
    if (typeof key === "bigint") threadEnd?.remove(key);
    try {
      close();
    } catch {
      // Another part of the program closed the descriptor. Continue with the remaining ones.
    }
  }
}
