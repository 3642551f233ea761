/** Counting descriptors: Linux by /proc, Windows by the system's own table of handles. */
import { listen } from "@winsock/handoff";
import { until } from "./process.ts";

const SYSTEM_EXTENDED_HANDLE_INFORMATION = 64;
const STATUS_INFO_LENGTH_MISMATCH = 0xc0000004 | 0;

/** How many descriptors a process has open. */
export function countDescriptors(processId: number = Deno.pid): number {
  return Deno.build.os === "windows" ? countHandles(processId) : countFiles(processId);
}

/** How many descriptors each of the processes has open, once that stays the same for a while. */
export async function settledDescriptors(...processIds: number[]): Promise<number[]> {
  let last: number[] = [];
  await until(async () => {
    await new Promise((resolve) => setTimeout(resolve, 300));
    const now = processIds.map(countDescriptors);
    const same = now.every((count, index) => count === last[index]);
    last = now;
    return same;
  }, "the number of descriptors settles");
  return last;
}

/**
 * How many sockets, pipes and files this process has open. On Windows threads have handles too, and Deno's come and go;
 * these are not counted.
 */
export function countOpen(): number {
  if (Deno.build.os !== "windows") return countFiles(Deno.pid);
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  return countHandles(Deno.pid, listener.handle) - 1;
}

function countFiles(processId: number): number {
  return [...Deno.readDirSync(`/proc/${processId}/fd`)].length;
}

/**
 * GetProcessHandleCount answers 0 under Wine; the table of all handles is right there and on Windows. With a handle of
 * this process, only those of its kind count.
 */
function countHandles(processId: number, like?: bigint): number {
  using ntdll = openNtdll();
  for (let size = 1 << 20;; size *= 2) {
    const table = new Uint8Array(size);
    const status = ntdll.symbols.NtQuerySystemInformation(SYSTEM_EXTENDED_HANDLE_INFORMATION, table, size, null);
    if (status === STATUS_INFO_LENGTH_MISMATCH) continue;
    if (status !== 0) throw new Error(`NtQuerySystemInformation failed with ${status}`);
    const view = new DataView(table.buffer);
    const count = Number(view.getBigUint64(0, true));
    const own = Array.from({ length: count }, (_, index) => 16 + index * 40).filter((entry) => {
      return Number(view.getBigUint64(entry + 8, true)) === processId;
    });
    if (like === undefined) return own.length;
    const kindOf = (entry: number) => view.getUint16(entry + 30, true);
    const kind = kindOf(own.find((entry) => view.getBigUint64(entry + 16, true) === like)!);
    return own.filter((entry) => kindOf(entry) === kind).length;
  }
}

function openNtdll() {
  const library = Deno.dlopen("C:\\Windows\\System32\\ntdll.dll", {
    NtQuerySystemInformation: { parameters: ["i32", "buffer", "u32", "buffer"], result: "i32" },
  });
  return { symbols: library.symbols, [Symbol.dispose]: () => library.close() };
}
