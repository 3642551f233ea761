/**
 * Descriptors that end with the program that has them where its process goes on: `deno run --watch` restarts a program in
 * the same process, and a Web Worker can be terminated.
 *
 * Deno closes what it has opened itself, and knows nothing of what foreign functions have. At a restart it emits `unload`;
 * in a Worker that is terminated, or closes itself, nothing runs at all, and only the system can see that its thread ends.
 *
 * @module
 */

/** Closes descriptors when the thread of this Worker ends. */
export interface ThreadEnd {
  /** Has a descriptor closed then. */
  add(s: bigint): void;
  /** Leaves it open then. */
  remove(s: bigint): void;
}

/** Whether this is a Web Worker. */
export const inWorker: boolean = "WorkerGlobalScope" in globalThis;

/** What closes each descriptor, and whatever else there is to be ended. */
const open = new Map<unknown, () => void>();
let threadEnd: ThreadEnd | undefined;
let listening = false;

/**
 * Has a descriptor closed when the program ends.
 *
 * @param s The descriptor. Whoever had this called for it before has it no more.
 * @param close Closes it.
 * @returns Leaves it alone from then on: it is about to be closed, or given up.
 */
export function closeAtEnd(s: bigint, close: () => void): () => void {
  const leave = callAtUnload(s, close);
  threadEnd?.add(s);
  return () => {
    if (leave()) threadEnd?.remove(s);
  };
}

/**
 * Has something called when the program is restarted, though not when a Worker is terminated.
 *
 * @param key What it ends. What was to be called for it before is not.
 * @param end Ends it.
 * @returns Has it not called; returns whether it would have been.
 */
export function callAtUnload(key: unknown, end: () => void): () => boolean {
  if (!listening) addEventListener("unload", closeAll);
  listening = true;
  open.set(key, end);
  return () => open.get(key) === end && open.delete(key);
}

/**
 * Has descriptors closed when this thread ends, too.
 *
 * @param chosen What sees that.
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
      // It was closed behind its owner's back; the others are to be closed all the same.
    }
  }
}
